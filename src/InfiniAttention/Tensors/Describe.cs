using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Facts about tensors for checks and error messages.</summary>
/// <remarks>Sizes are read one at a time, because <c>shape</c> leaves native memory behind that only a collection frees.</remarks>
internal static class Describe
{
    public static string Shape(Tensor tensor) => $"({string.Join(", ", Sizes(tensor))})";

    public static bool HasShape(Tensor tensor, params ReadOnlySpan<long> sizes)
    {
        if (tensor.dim() != sizes.Length)
        {
            return false;
        }

        for (var i = 0; i < sizes.Length; i++)
        {
            if (tensor.size(i) != sizes[i])
            {
                return false;
            }
        }

        return true;
    }

    public static bool IsFloating(ScalarType type) => type is ScalarType.Float32 or ScalarType.Float64 || IsHalf(type);

    public static bool IsHalf(ScalarType type) => type is ScalarType.Float16 or ScalarType.BFloat16;

    /// <summary>TorchSharp's devices have no value equality; an index of -1 is the first device.</summary>
    public static bool Same(Device a, Device b) => a.type == b.type && Math.Max(a.index, 0) == Math.Max(b.index, 0);

    /// <summary>The same for two tensors, without <c>device</c>, each read of which creates an object.</summary>
    public static bool SameDevice(Tensor a, Tensor b) => a.device_type == b.device_type && Math.Max(a.device_index, 0) == Math.Max(b.device_index, 0);

    /// <summary>The tensor in the given type; the tensor itself if it has that type.</summary>
    public static Tensor As(Tensor tensor, ScalarType type) => tensor.dtype == type ? tensor : tensor.to(type);

    /// <summary>Whether every element of a bool tensor is true.</summary>
    public static bool AllTrue(Tensor flags)
    {
        using var scope = NewDisposeScope();
        return flags.all().cpu().bytes[0] != 0;
    }

    /// <summary>The value of a tensor of one element.</summary>
    public static double Number(Tensor scalar)
    {
        using var scope = NewDisposeScope();
        return BitConverter.ToDouble(scalar.detach().to(ScalarType.Float64).cpu().bytes);
    }

    /// <summary>The same as <c>shape</c>, without leaving native memory behind.</summary>
    public static long[] Sizes(Tensor tensor)
    {
        var sizes = new long[tensor.dim()];
        for (var i = 0; i < sizes.Length; i++)
        {
            sizes[i] = tensor.size(i);
        }

        return sizes;
    }
}
