using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The compressive memory of a block of segments: its contents before each of them and after the last, and what queries read from it.</summary>
/// <remarks>
/// B batch, S segments, G key/value heads, R = H/G query heads of each, n tokens of each segment (N if whole), K key width, V value width.
/// </remarks>
/// <param name="M">M before each segment, (B, S, G, K, V)</param>
/// <param name="Z">z before each segment, (B, S, G, K)</param>
/// <param name="After">M (B, G, K, V) and z (B, G, K) after the last segment; null if they are those before.</param>
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
        var terms = SegmentTerms.Of(tokens, m.dtype, norm);
        if (terms.Keep is not { } keep || !is_grad_enabled())
        {
            return Written(rule, m, z, terms).MoveToOuterDisposeScope();
        }

        // Clearing a memory that is not finite where a document starts is not enough: the gradient of the recurrence before the start multiplies it by 0.
        var isSpoilt = IsSpoilt(m, z);
        return Written(rule, Filled(m, isSpoilt, Scalars.Zero), Filled(z, isSpoilt, Scalars.Zero), terms).SpoiltUntilCleared(isSpoilt, keep).MoveToOuterDisposeScope();
    }

    private static CompressiveMemory Written(UpdateRule rule, Tensor m, Tensor z, SegmentTerms terms)
    {
        var normalizers = terms.Normalizers(z);
        return Of(terms, normalizers, rule.Maps(terms.Writes(normalizers)), m);
    }

    /// <summary>The same with NaN in the given memories, (B, G), up to the segment in which a document starts.</summary>
    /// <param name="memories">(B, G) bool</param>
    /// <param name="keep">(B, S) bool: false for a segment in which a document starts.</param>
    private CompressiveMemory SpoiltUntilCleared(Tensor memories, Tensor keep)
    {
        var segments = (int)keep.size(1);
        var lasts = keep.logical_not().cumsum(1, int64).eq(Scalars.Zero); // whether the memory outlasts the segment, (B, S)
        var isThere = cat([ones([keep.size(0), 1], ScalarType.Bool, keep.device), lasts.narrow(1, 0, segments - 1)], 1);
        var before = isThere.unsqueeze(-1).logical_and(memories.unsqueeze(1)); // (B, S, G)
        var after = lasts.narrow(1, segments - 1, 1).logical_and(memories);    // (B, G)
        var (m, z) = After!.Value;
        return new(Filled(M, before, Scalars.NotANumber), Filled(Z, before, Scalars.NotANumber), (Filled(m, after, Scalars.NotANumber), Filled(z, after, Scalars.NotANumber)));
    }

    /// <summary>The memory over segments whose normalisers and maps are known: M_s = T_s M_{s-1} + W_s.</summary>
    /// <param name="terms">What the segments write.</param>
    /// <param name="normalizers">z before each segment and after the last.</param>
    /// <param name="maps">T and W of each segment.</param>
    /// <param name="m">M before the first segment, (B, G, K, V)</param>
    public static CompressiveMemory Of(SegmentTerms terms, (Tensor Before, Tensor After) normalizers, (Tensor? T, Tensor W) maps, Tensor m)
    {
        var (before, after) = SegmentScan.Run(m, maps.T, maps.W, terms.Keep);
        return new(before, normalizers.Before, (after, normalizers.After));
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

    /// <summary>Which memories hold a number that is not finite, (B, S, G).</summary>
    public Tensor IsSpoilt() => IsSpoilt(M, Z);

    /// <summary>The same with 0 in place of the given memories, (B, S, G).</summary>
    public CompressiveMemory Without(Tensor memories) => this with { M = Filled(M, memories, Scalars.Zero), Z = Filled(Z, memories, Scalars.Zero) };

    private static Tensor IsSpoilt(Tensor m, Tensor z)
    {
        using var scope = NewDisposeScope();
        return m.detach().isfinite().flatten(-2).all(-1).logical_and(z.detach().isfinite().all(-1)).logical_not().MoveToOuterDisposeScope();
    }

    /// <summary>M (…, G, K, V) or z (…, G, K) with a number in place of the given memories, (…, G).</summary>
    private static Tensor Filled(Tensor perHead, Tensor memories, Scalar number)
    {
        using var scope = NewDisposeScope();
        var mask = memories.unsqueeze(-1);
        return perHead.masked_fill(perHead.dim() > mask.dim() ? mask.unsqueeze(-1) : mask, number).MoveToOuterDisposeScope();
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
}
