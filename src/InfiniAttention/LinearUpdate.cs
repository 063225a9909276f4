using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Equation 8: M_s = M_{s-1} + sigma(K)^T V. All segments at once: M before each is an exclusive prefix sum.</summary>
internal static class LinearUpdate
{
    /// <param name="memory">M before the first segment, (B, G, K, V).</param>
    /// <param name="written">sigma(K) times write weights, (S, B, G, N, K).</param>
    /// <param name="v">(S, B, G, N, V)</param>
    /// <param name="prefix">Sums over the segments before each.</param>
    /// <returns>M before each segment (S, B, G, K, V), and after the last (B, G, K, V).</returns>
    public static (Tensor Before, Tensor After) Scan(Tensor memory, Tensor written, Tensor v, SegmentPrefix prefix)
    {
        using var scope = NewDisposeScope();
        using var added = Added(written, v);
        var (before, after) = prefix.Sum(added, memory);
        return (before.MoveToOuterDisposeScope(), after.MoveToOuterDisposeScope());
    }

    /// <summary>B_s = sigma(K)^T V of each segment, (S, B, G, K, V).</summary>
    public static Tensor Added(Tensor written, Tensor v)
    {
        using var scope = NewDisposeScope();
        var (n, width, valueWidth) = (written.shape[3], written.shape[4], v.shape[4]);
        return written.view(-1, n, width).transpose(1, 2).bmm(v.view(-1, n, valueWidth))
            .view(written.shape[0], written.shape[1], written.shape[2], width, valueWidth).MoveToOuterDisposeScope();
    }
}
