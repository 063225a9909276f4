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
        var normalizers = terms.Normalizers(z);
        return Of(terms, normalizers, rule.Maps(terms.Writes(normalizers)), m).MoveToOuterDisposeScope();
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
