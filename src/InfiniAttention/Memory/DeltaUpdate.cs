using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Equation 9: M_s = M_{s-1} + sigma(K)^T (V - sigma(K) M_{s-1} / (sigma(K) z_{s-1})). It is affine in M:
/// T_s = 1 - sigma(K)^T diag(1 / (sigma(K) z_{s-1})) sigma(K) and W_s = sigma(K)^T V.
/// </summary>
internal sealed class DeltaUpdate(DeltaNormalizer normalizer) : UpdateRule
{
    /// <inheritdoc/>
    public override bool UsesNormalizer => true;

    /// <inheritdoc/>
    public override (Tensor? T, Tensor W) Maps(SegmentWrites writes)
    {
        using var scope = NewDisposeScope();
        var (sigmaK, written) = (writes.SigmaK, writes.Written);
        var z = normalizer == DeltaNormalizer.BeforeSegment ? writes.NormalizerBefore : writes.NormalizerAfter;
        var denominator = FeatureMap.Denominator(sigmaK, z.reshape(-1, 1, sigmaK.size(2))); // sigma(K) z, (B*S*G, N, 1)

        // With an empty memory there is nothing to subtract.
        var isEmpty = denominator.eq(Scalars.Zero);
        var minusInverse = denominator.masked_fill(isEmpty, Scalars.One).reciprocal().masked_fill(isEmpty, Scalars.Zero).neg_();

        // In float64: 1 minus a small matrix, rounded to float32 at every segment, would cost a digit over a million tokens.
        var identity = eye(sigmaK.size(2), sigmaK.size(2), ScalarType.Float64, sigmaK.device);
        var t = sigmaK.transpose(1, 2).bmm(written.mul(minusInverse)).to(ScalarType.Float64).add_(identity, Scalars.One);
        var w = written.transpose(1, 2).bmm(writes.Values);
        return (writes.PerHead(t).MoveToOuterDisposeScope(), writes.PerHead(w).MoveToOuterDisposeScope());
    }
}
