using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Facts about tensors as checks and error messages need them.</summary>
internal static class Describe
{
    public static string Shape(Tensor tensor) => $"({string.Join(", ", tensor.shape)})";

    public static bool IsFloating(ScalarType type) => type is ScalarType.Float32 or ScalarType.Float64 or ScalarType.Float16 or ScalarType.BFloat16;

    /// <summary>TorchSharp's devices have no value equality; an index of -1 is the first device.</summary>
    public static bool Same(Device a, Device b) => a.type == b.type && Math.Max(a.index, 0) == Math.Max(b.index, 0);
}
