using System.Numerics;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Views of CPU tensors as vectors, and loops over them on as many threads as libtorch uses.</summary>
internal static class HostVector
{
    /// <summary>Whether this runtime has a vector exponential (.NET 9 and later).</summary>
#if NET9_0_OR_GREATER
    public static bool HasExp => Vector.IsHardwareAccelerated;
#else
    public static bool HasExp => false;
#endif

    /// <summary>Whether the last dimension, of float32 or float64, consists of whole vectors.</summary>
    public static bool IsWhole(Tensor tensor) =>
        tensor.size((int)tensor.dim() - 1) % (tensor.dtype == ScalarType.Float64 ? Vector<double>.Count : Vector<float>.Count) == 0;

    /// <summary>Whether a tensor can be viewed as vectors: of float32 or float64 on a CPU, contiguous, of whole vectors, and not too large for a span.</summary>
    public static bool AreVectors(Tensor tensor) => tensor.device_type == DeviceType.CPU && tensor.dtype is ScalarType.Float32 or ScalarType.Float64
        && IsWhole(tensor) && tensor.is_contiguous() && FitsSpan(tensor);

    /// <summary>Whether a tensor is small enough for a span of bytes.</summary>
    public static bool FitsSpan(Tensor tensor) => tensor.numel() * tensor.ElementSize <= int.MaxValue;

    /// <summary>The elements of a contiguous tensor; <c>data</c> would leave native memory behind.</summary>
    public static Span<T> Elements<T>(Tensor tensor)
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(tensor.bytes);

    /// <summary>The vectors of a contiguous tensor.</summary>
    public static Span<Vector<T>> Of<T>(Tensor tensor)
        where T : unmanaged => MemoryMarshal.Cast<byte, Vector<T>>(tensor.bytes);

    /// <summary>The memory's feature map: sigma(x) = max(x, 0) + exp(min(x, 0)).</summary>
    public static Vector<T> Sigma<T>(Vector<T> x)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
#if NET9_0_OR_GREATER
        if (typeof(T) == typeof(double))
        {
            var wide = x.As<T, double>();
            return (Vector.Max(wide, Vector<double>.Zero) + Vector.Exp(Vector.Clamp(wide, new Vector<double>(Scalars.LowestExponent64), Vector<double>.Zero))).As<double, T>();
        }

        var narrow = x.As<T, float>();
        return (Vector.Max(narrow, Vector<float>.Zero) + Vector.Exp(Vector.Clamp(narrow, new Vector<float>(Scalars.LowestExponent32), Vector<float>.Zero))).As<float, T>();
#else
        throw new PlatformNotSupportedException("There is no vector exponential before .NET 9.");
#endif
    }

    private const int RangesPerThread = 4;

    /// <summary>
    /// Cuts the numbers from 0 to <paramref name="count"/> into ranges for as many threads as libtorch uses. libtorch's own threads go on spinning
    /// for a while after their work, so there are more ranges than threads (a late thread takes fewer), and two threads are no faster than one.
    /// </summary>
    public static void ForEach(long count, Action<int, int> range)
    {
        var threads = (int)Math.Min(get_num_threads(), count);
        if (threads <= 2)
        {
            range(0, (int)count);
            return;
        }

        var ranges = Math.Min(count, RangesPerThread * threads);
        Parallel.For(0, (int)ranges, new ParallelOptions { MaxDegreeOfParallelism = threads }, i => range((int)(count * i / ranges), (int)(count * (i + 1) / ranges)));
    }
}
