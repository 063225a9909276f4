using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Equation 9: M_s = M_{s-1} + sigma(K)^T (V - sigma(K) M_{s-1} / (sigma(K) z_{s-1})). It is affine in M:
/// M_s = (I - A_s) M_{s-1} + B_s with A_s = sigma(K)^T diag(1 / (sigma(K) z_{s-1})) sigma(K) and B_s = sigma(K)^T V,
/// so every A_s and B_s is one batched product, and a K x K product for each segment is left to run in order.
/// </summary>
internal static class DeltaUpdate
{
    /// <param name="memory">M before the first segment, (B, G, K, V).</param>
    /// <param name="sigmaK">(S, B, G, N, K)</param>
    /// <param name="written">sigma(K) times write weights, (S, B, G, N, K).</param>
    /// <param name="v">(S, B, G, N, V)</param>
    /// <param name="prefix">Which segments keep what is before them.</param>
    /// <param name="normalizer">The z that divides what the keys retrieve, (S, B, G, K).</param>
    /// <returns>M before each segment (S, B, G, K, V), and after the last (B, G, K, V).</returns>
    public static (Tensor Before, Tensor After) Scan(Tensor memory, Tensor sigmaK, Tensor written, Tensor v, SegmentPrefix prefix, Tensor normalizer)
    {
        using var scope = NewDisposeScope();
        var (segments, batch, heads, width, valueWidth) = (v.shape[0], v.shape[1], v.shape[2], sigmaK.shape[4], v.shape[4]);
        var added = LinearUpdate.Added(written, v).view(segments, batch * heads, width, valueWidth).unbind(0);
        var kept = Kept(sigmaK, written, normalizer);
        if (prefix.Keep is { } keep)
        {
            kept = kept * SegmentPrefix.Flags(keep, kept);
        }

        var steps = kept.view(segments, batch * heads, width, width).unbind(0);
        var memories = new Tensor[segments + 1];
        memories[0] = memory.view(batch * heads, width, valueWidth);
        for (var s = 0; s < segments; s++)
        {
            memories[s + 1] = steps[s].bmm(memories[s]).add_(added[s]);
        }

        var before = segments == 1 ? memory.unsqueeze(0) : stack(memories[..^1], 0).view(segments, batch, heads, width, valueWidth);
        return (before.MoveToOuterDisposeScope(), memories[^1].view(batch, heads, width, valueWidth).MoveToOuterDisposeScope());
    }

    /// <summary>Whether the subtraction divides by z before (the paper) or after each segment, given z before each and after the last.</summary>
    public static Tensor Normalizers(DeltaNormalizer choice, Tensor before, Tensor after) => choice == DeltaNormalizer.BeforeSegment
        ? before
        : cat([before.narrow(0, 1, before.shape[0] - 1), after.unsqueeze(0)], 0);

    /// <summary>I - A_s of each segment, (S, B, G, K, K). Keys that find an empty memory have nothing to subtract.</summary>
    private static Tensor Kept(Tensor sigmaK, Tensor written, Tensor normalizer)
    {
        using var scope = NewDisposeScope();
        var (n, width) = (sigmaK.shape[3], sigmaK.shape[4]);
        var keys = sigmaK.view(-1, n, width);
        var denominator = CompressiveMemory.Product(keys, normalizer.reshape(-1, 1, width)); // (S*B*G, N, 1)
        var empty = denominator == Scalars.Zero;
        var inverse = denominator.masked_fill(empty, Scalars.One).reciprocal().masked_fill(empty, Scalars.Zero);
        return (eye(width, width, keys.dtype, keys.device) - keys.transpose(1, 2).bmm(written.view(-1, n, width) * inverse))
            .view(sigmaK.shape[0], sigmaK.shape[1], sigmaK.shape[2], width, width).MoveToOuterDisposeScope();
    }
}
