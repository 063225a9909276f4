using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Facts about tensors as checks and error messages need them.</summary>
internal static class Describe
{
    public static string Shape(Tensor tensor) => $"({string.Join(", ", tensor.shape)})";

    /// <summary>The sizes of a tensor of six dimensions; each read of <c>shape</c> makes an array.</summary>
    public static (long, long, long, long, long, long) SixDimensions(Tensor tensor)
    {
        var shape = tensor.shape;
        return (shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]);
    }

    public static bool IsFloating(ScalarType type) => type is ScalarType.Float32 or ScalarType.Float64 or ScalarType.Float16 or ScalarType.BFloat16;

    /// <summary>Whether this very tensor object is among those given; == on tensors compares elements.</summary>
    public static bool Holds(Tensor[] tensors, Tensor tensor) => Array.Exists(tensors, held => ReferenceEquals(held, tensor));

    /// <summary>TorchSharp's devices have no value equality; an index of -1 is the first device.</summary>
    public static bool Same(Device a, Device b) => a.type == b.type && Math.Max(a.index, 0) == Math.Max(b.index, 0);

    /// <summary>The same of two tensors; each read of <c>device</c> makes an object.</summary>
    public static bool SameDevice(Tensor a, Tensor b) => a.device_type == b.device_type && Math.Max(a.device_index, 0) == Math.Max(b.device_index, 0);
}
