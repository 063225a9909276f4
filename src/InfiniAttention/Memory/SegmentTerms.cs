using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What S whole segments write to the memory, apart from what it already holds.</summary>
/// <remarks>B batch, S segments, G key/value heads, N tokens of each segment, K key width, V value width.</remarks>
/// <param name="SigmaK">sigma(K), (B*S*G, N, K)</param>
/// <param name="Written">sigma(K) times the write weights, (B*S*G, N, K)</param>
/// <param name="Values">V, (B*S*G, N, V)</param>
/// <param name="Sums">The sum of <paramref name="Written"/> over each segment, (B, S, G, K)</param>
/// <param name="Keep">(B, S) bool: false for a segment in which a document starts, which clears the memory before it; null if all are true.</param>
internal sealed record SegmentTerms(Tensor SigmaK, Tensor Written, Tensor Values, Tensor Sums, Tensor? Keep)
{
    /// <param name="tokens">The tokens of S whole segments.</param>
    /// <param name="type">The memory's type.</param>
    /// <param name="norm">The norms on the memory's path; null for none.</param>
    public static SegmentTerms Of(SegmentTokens tokens, ScalarType type, NormScales? norm)
    {
        var (k, v, marks) = (tokens.Keys, tokens.Values, tokens.Marks);
        var (batch, segments, length, heads) = (k.size(0), k.size(1), k.size(2), k.size(3));
        if (marks.IsEmpty && HostPasses.Takes(k, type) && HostPasses.Takes(v, type))
        {
            var (features, ofHeads, sums) = HostPasses.Keys(k, v, norm);
            return new(features, features, ofHeads, PerSegment(sums), null);
        }

        using var scope = NewDisposeScope();
        var single = k.unsqueeze(4); // one head of each group
        var sigmaK = HostFeatures.Takes(single, type) ? HostFeatures.Apply(single, norm?.KeyScale)
            : FeatureMap.ApplyToHeads(single, type, norm is null ? null : norm.Keys);
        var values = Describe.As(v, type).transpose(2, 3).reshape(batch * segments * heads, length, v.size(4));
        var written = sigmaK;
        if (marks.Writes(type) is { } weights)
        {
            var rows = weights.unsqueeze(2).expand(batch, segments, heads, length).reshape(-1, length, 1);
            (sigmaK, values) = WithoutForgotten(sigmaK, values, rows);
            written = sigmaK.mul(rows);
        }

        return new(
            sigmaK.MoveToOuterDisposeScope(), written.MoveToOuterDisposeScope(), values.MoveToOuterDisposeScope(),
            PerSegment(written.sum(dim: 1)).MoveToOuterDisposeScope(), marks.Keep()?.MoveToOuterDisposeScope());

        Tensor PerSegment(Tensor sums) => sums.view(batch, segments, heads, -1);
    }

    /// <summary>z_s = z_{s-1} + sum_t sigma(K_t), under every rule.</summary>
    /// <param name="z">z before the first segment, (B, G, K)</param>
    /// <returns>z before each segment, (B, S, G, K), and after the last, (B, G, K)</returns>
    public (Tensor Before, Tensor After) Normalizers(Tensor z) => SegmentScan.Run(z, null, Sums, Keep);

    /// <summary>The terms that update rules are made of.</summary>
    /// <param name="normalizers">z before each segment and after the last.</param>
    public SegmentWrites Writes((Tensor Before, Tensor After) normalizers)
    {
        var (before, after) = normalizers;
        var (batch, segments) = (Sums.size(0), Sums.size(1));
        var afterEach = segments == 1 ? after.unsqueeze(1) : cat([before.narrow(1, 1, segments - 1), after.unsqueeze(1)], 1);
        var kept = Keep is null ? before : before.masked_fill(Keep.logical_not().view(batch, segments, 1, 1), Scalars.Zero);
        return new(SigmaK, Written, Values, kept, afterEach);
    }

    /// <summary>sigma(K) and V with 0 for tokens that are not finite and not written, because 0 times NaN would be NaN.</summary>
    /// <param name="sigmaK">(B*S*G, N, K)</param>
    /// <param name="values">(B*S*G, N, V)</param>
    /// <param name="weights">(B*S*G, N, 1)</param>
    private static (Tensor SigmaK, Tensor Values) WithoutForgotten(Tensor sigmaK, Tensor values, Tensor weights)
    {
        using var scope = NewDisposeScope();
        var isSpoilt = sigmaK.detach().isfinite().all(-1, true).logical_and(values.detach().isfinite().all(-1, true)).logical_not();
        var isForgotten = weights.eq(Scalars.Zero).logical_and(isSpoilt);
        return (sigmaK.masked_fill(isForgotten, Scalars.Zero).MoveToOuterDisposeScope(), values.masked_fill(isForgotten, Scalars.Zero).MoveToOuterDisposeScope());
    }
}
