using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Equation 8: M_s = M_{s-1} + sigma(K)^T V. All segments at once: M before each is an exclusive prefix sum.</summary>
internal static class LinearUpdate
{
    /// <param name="memory">M before the first segment, (B, G, K, V).</param>
    /// <param name="added">B_s = sigma(K)^T V of each segment, (B, S, G, K, V).</param>
    /// <param name="prefix">Sums over the segments before each.</param>
    /// <returns>M before each segment (B, S, G, K, V), and after the last (B, G, K, V).</returns>
    public static (Tensor Before, Tensor After) Scan(Tensor memory, Tensor added, SegmentPrefix prefix) => prefix.Sum(added, memory);
}
