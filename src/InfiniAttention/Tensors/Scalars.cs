using TorchSharp;

namespace InfiniAttention;

/// <summary>
/// The numbers that operators are called with, made once. TorchSharp's implicit conversion allocates a native scalar that nothing
/// keeps alive during the call, so that a collection on another thread can free it there; and those that live until their
/// finaliser runs pin the heap between a block's temporaries. <c>a + b</c>, <c>add(b)</c> and <c>number - a</c> convert a 1 inside
/// TorchSharp: the library writes <c>a.add(b, Scalars.One)</c>.
/// </summary>
internal static class Scalars
{
    public static readonly Scalar Zero = 0.0;
    public static readonly Scalar One = 1.0;
    public static readonly Scalar OneInteger = 1L;
    public static readonly Scalar Infinity = double.PositiveInfinity;
    public static readonly Scalar MinusInfinity = double.NegativeInfinity;
    public static readonly Scalar NotANumber = double.NaN;

    /// <summary>From which number down an additive mask hides a key.</summary>
    public static readonly Scalar Hidden = -10000.0;

    /// <summary>Lower limits of the feature map's exponent.</summary>
    public static readonly Scalar FloorFloat32 = FeatureMap.FloorFloat32;

    /// <inheritdoc cref="FloorFloat32"/>
    public static readonly Scalar FloorFloat64 = FeatureMap.FloorFloat64;
}
