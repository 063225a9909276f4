using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Keeps the C library from returning the memory of a block's temporaries to the system after every call and paging it in
/// again in the next.
/// </summary>
/// <remarks>
/// glibc raises the sizes from which it maps and trims memory to those of the largest mapped chunk that was ever freed, up to
/// 32 MB. One tensor of nearly that size, allocated once and freed untouched, costs no memory; without it a forward of
/// blocks of 4 MB tensors takes a quarter longer (docs/performance.md). With other C libraries it has no effect.
/// </remarks>
internal static class HostHeap
{
    private const long Bytes = (32L << 20) - (64L << 10);

    private static readonly Lazy<bool> Kept = new(() =>
    {
        empty(Bytes, ScalarType.Byte, CPU).Dispose();
        return true;
    });

    /// <summary>Applies the setting once per process.</summary>
    public static void KeepTemporaries() => _ = Kept.Value;
}
