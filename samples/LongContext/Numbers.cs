using TorchSharp;

namespace LongContext;

/// <summary>
/// Numbers that operators are called with, created once. <c>a + b</c> creates a scalar inside TorchSharp that nothing keeps alive: a garbage
/// collection on another thread can free it during the call.
/// </summary>
internal static class Numbers
{
    public static readonly Scalar Zero = 0, One = 1;
}
