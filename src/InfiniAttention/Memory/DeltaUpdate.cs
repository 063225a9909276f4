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
    /// <param name="added">B_s of each segment, (B, S, G, K, V).</param>
    /// <param name="sigmaK">(B*S*G, N, K)</param>
    /// <param name="written">sigma(K) times write weights, (B*S*G, N, K).</param>
    /// <param name="normalizer">The z that divides what the keys retrieve, (B, S, G, K).</param>
    /// <param name="prefix">Which segments keep what is before them.</param>
    /// <returns>M before each segment (B, S, G, K, V), and after the last (B, G, K, V).</returns>
    public static (Tensor Before, Tensor After) Scan(Tensor memory, Tensor added, Tensor sigmaK, Tensor written, Tensor normalizer, SegmentPrefix prefix)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, heads, width, valueWidth) = (added.size(0), added.size(1), added.size(2), added.size(3), added.size(4));
        var kept = Kept(sigmaK, written, normalizer).view(batch, segments, heads, width, width);
        if (prefix.Keep is { } keep)
        {
            kept = kept * SegmentPrefix.Flags(keep, kept);
        }

        // (B*G, K, K) and (B*G, K, V) for each segment
        var steps = kept.transpose(0, 1).reshape(segments, batch * heads, width, width).unbind(0);
        var writes = added.transpose(0, 1).reshape(segments, batch * heads, width, valueWidth).unbind(0);
        var memories = new Tensor[segments + 1];
        memories[0] = memory.view(batch * heads, width, valueWidth);
        for (var s = 0; s < segments; s++)
        {
            memories[s + 1] = steps[s].bmm(memories[s]).add_(writes[s]);
        }

        var before = segments == 1
            ? memory.unsqueeze(1)
            : stack(memories[..^1], 0).view(segments, batch, heads, width, valueWidth).transpose(0, 1);
        return (before.MoveToOuterDisposeScope(), memories[^1].view(batch, heads, width, valueWidth).MoveToOuterDisposeScope());
    }

    /// <summary>Whether the subtraction divides by z before (the paper) or after each segment, given z before each and after the last.</summary>
    public static Tensor Normalizers(DeltaNormalizer choice, Tensor before, Tensor after) => choice == DeltaNormalizer.BeforeSegment
        ? before
        : cat([before.narrow(1, 1, before.size(1) - 1), after.unsqueeze(1)], 1);

    /// <summary>I - A_s of each segment, (B*S*G, K, K). Keys that find an empty memory have nothing to subtract.</summary>
    private static Tensor Kept(Tensor sigmaK, Tensor written, Tensor normalizer)
    {
        using var scope = NewDisposeScope();
        var width = sigmaK.size(2);
        var denominator = CompressiveMemory.Product(sigmaK, normalizer.reshape(-1, 1, width)); // (B*S*G, N, 1)
        var empty = denominator == Scalars.Zero;
        var minusInverse = denominator.masked_fill(empty, Scalars.One).reciprocal().masked_fill(empty, Scalars.Zero).neg_();
        return sigmaK.transpose(1, 2).bmm(written * minusInverse).add_(eye(width, width, sigmaK.dtype, sigmaK.device)).MoveToOuterDisposeScope();
    }
}
