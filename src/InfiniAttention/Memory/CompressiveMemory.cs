using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The compressive memory of a block of segments: its contents before each of them and after the last, and what queries read from it.</summary>
/// <remarks>
/// B batch, S segments, G key/value heads, R = H/G query heads of each, n tokens of each segment (N if whole), K key width, V value width.
/// </remarks>
/// <param name="M">M before each segment, (B, S, G, K, V)</param>
/// <param name="Z">z before each segment, (B, S, G, K)</param>
/// <param name="After">M (B, G, K, V) and z (B, G, K) after the last segment; null if nothing was written.</param>
internal sealed record CompressiveMemory(Tensor M, Tensor Z, (Tensor M, Tensor Z)? After)
{
    /// <summary>The memory before a segment that is not written.</summary>
    public static CompressiveMemory Unchanged(Tensor m, Tensor z) => new(m.unsqueeze(1), z.unsqueeze(1), null);

    /// <summary>Equations 8 and 9 for all segments at once.</summary>
    /// <param name="rule">The update rule.</param>
    /// <param name="m">M before the first segment, (B, G, K, V)</param>
    /// <param name="z">z before the first segment, (B, G, K)</param>
    /// <param name="tokens">The tokens of S whole segments.</param>
    /// <param name="norm">The norms on the memory's path; null for none.</param>
    public static CompressiveMemory Write(UpdateRule rule, Tensor m, Tensor z, SegmentTokens tokens, NormScales? norm = null)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, heads) = (tokens.Keys.size(0), tokens.Keys.size(1), tokens.Keys.size(3));
        var (sigmaK, values, written) = Apart(tokens, m.dtype, norm);

        // z_s = z_{s-1} + sum_t sigma(K_t), under every rule.
        var keep = tokens.Marks.Keep();
        var (zBefore, zAfter) = SegmentScan.Run(z, null, written.Sums.view(batch, segments, heads, -1), keep);
        var zAfterEach = segments == 1 ? zAfter.unsqueeze(1) : cat([zBefore.narrow(1, 1, segments - 1), zAfter.unsqueeze(1)], 1);

        // M_s = T_s M_{s-1} + W_s
        var zKept = keep is null ? zBefore : zBefore.masked_fill(keep.logical_not().view(batch, segments, 1, 1), Scalars.Zero);
        var (t, w) = rule.Maps(new(sigmaK, written.SigmaK, values, zKept, zAfterEach));
        var (mBefore, mAfter) = SegmentScan.Run(m, t, w, keep);
        return new CompressiveMemory(mBefore, zBefore, (mAfter, zAfter)).MoveToOuterDisposeScope();
    }

    /// <summary>Moves the tensors to the dispose scope around the innermost one.</summary>
    public CompressiveMemory MoveToOuterDisposeScope()
    {
        M.MoveToOuterDisposeScope();
        Z.MoveToOuterDisposeScope();
        After?.M.MoveToOuterDisposeScope();
        After?.Z.MoveToOuterDisposeScope();
        return this;
    }

    /// <summary>Equation 7, A_mem = sigma(Q) M / (sigma(Q) z), as its numerator and denominator.</summary>
    /// <param name="q">(B, S, n, G, R, K)</param>
    /// <param name="norm">The norms on the memory's path, of which only that of q applies here; null for none.</param>
    /// <returns>(B, S, n, G, R, V) and (B, S, n, G, R, 1)</returns>
    public (Tensor Numerator, Tensor Denominator) Read(Tensor q, NormScales? norm = null)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, n, heads, group, width) = QueryShape.Of(q);
        var sigmaQ = HostFeatures.Takes(q, M.dtype) ? HostFeatures.Apply(q, norm?.QueryScale)
            : FeatureMap.ApplyToHeads(q, M.dtype, norm is null ? null : norm.Queries);    // (B*S*G, R*n, K)
        var numerator = sigmaQ.bmm(M.reshape(-1, width, M.size(4)));
        var denominator = FeatureMap.Denominator(sigmaQ, Z.reshape(-1, 1, width), mayOverwrite: true);
        return (PerToken(numerator).MoveToOuterDisposeScope(), PerToken(denominator).MoveToOuterDisposeScope());

        Tensor PerToken(Tensor perHead) => perHead.view(batch, segments, heads, group, n, perHead.size(2)).permute(0, 1, 4, 2, 3, 5);
    }

    /// <summary>sigma(K) and V per head, and sigma(K) as it is written: multiplied by the write weights, with its sum over each segment.</summary>
    /// <returns>(B*S*G, N, K), (B*S*G, N, V), and (B*S*G, N, K) with (B*S*G, K)</returns>
    private static (Tensor SigmaK, Tensor Values, (Tensor SigmaK, Tensor Sums) Written) Apart(SegmentTokens tokens, ScalarType type, NormScales? norm)
    {
        using var scope = NewDisposeScope();
        var (k, v) = (tokens.Keys, tokens.Values);
        Tensor sigmaK, values, written, sums;
        if (tokens.Marks.IsEmpty && HostPasses.Takes(k, type) && HostPasses.Takes(v, type))
        {
            (sigmaK, values, sums) = HostPasses.Keys(k, v, norm);
            written = sigmaK;
        }
        else
        {
            var (batch, segments, length, heads) = (k.size(0), k.size(1), k.size(2), k.size(3));
            var single = k.unsqueeze(4); // one head of each group
            sigmaK = HostFeatures.Takes(single, type) ? HostFeatures.Apply(single, norm?.KeyScale)
                : FeatureMap.ApplyToHeads(single, type, norm is null ? null : norm.Keys);
            values = Describe.As(v, type).transpose(2, 3).reshape(batch * segments * heads, length, v.size(4));
            written = sigmaK;
            if (tokens.Marks.Writes(type) is { } weights)
            {
                var rows = weights.unsqueeze(2).expand(batch, segments, heads, length).reshape(-1, length, 1);
                (sigmaK, values) = WithoutForgotten(sigmaK, values, rows);
                written = sigmaK.mul(rows);
            }

            sums = written.sum(dim: 1);
        }

        return (sigmaK.MoveToOuterDisposeScope(), values.MoveToOuterDisposeScope(), (written.MoveToOuterDisposeScope(), sums.MoveToOuterDisposeScope()));
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
