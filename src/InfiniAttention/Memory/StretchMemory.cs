using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The compressive memory of this process's stretch of a sequence that a group shares. It is written in two steps, so that what the ranks
/// before write arrives during the local attention.
/// </summary>
internal sealed class StretchMemory
{
    private readonly Stretch stretch;
    private readonly UpdateRule rule;
    private readonly MemoryMatrix before;
    private readonly SegmentTokens tokens;
    private readonly SegmentTerms? terms;
    private readonly (Tensor? T, Tensor W)? maps; // null if they depend on z
    private readonly StretchScan normalizer;
    private readonly StretchScan? matrix; // null if what is handed on depends on z

    /// <summary>Begins the exchange; the tensors belong to the caller's dispose scope.</summary>
    /// <param name="stretch">This rank's stretch.</param>
    /// <param name="rule">The update rule.</param>
    /// <param name="before">M and z before the first rank's stretch; 0 on the others.</param>
    /// <param name="tokens">The tokens of the stretch.</param>
    /// <param name="terms">What they write; null if they are no whole segment.</param>
    public StretchMemory(Stretch stretch, UpdateRule rule, MemoryMatrix before, SegmentTokens tokens, SegmentTerms? terms)
    {
        (this.stretch, this.rule, this.before, this.tokens, this.terms) = (stretch, rule, before, tokens, terms);
        normalizer = Begin(before.Z, terms is null ? null : Sum(terms.Sums));
        if (!rule.UsesNormalizer)
        {
            maps = terms is null ? null : rule.Maps(terms.Writes(terms.Normalizers(before.Z)));
            matrix = Begin(before.M, maps is var (_, w) ? Sum(w) : null);
        }
    }

    /// <summary>M and z before each segment and after the last; without a whole segment, what was received.</summary>
    public CompressiveMemory End()
    {
        var z = normalizer.End();
        if (terms is null)
        {
            var m = (matrix ?? Begin(before.M, null)).End();
            return CompressiveMemory.Unchanged(m, z) with { After = (m, z) };
        }

        var normalizers = terms.Normalizers(z);
        if (maps is { } known)
        {
            return CompressiveMemory.Of(terms, normalizers, known, matrix!.End());
        }

        var (t, w) = rule.Maps(terms.Writes(normalizers));
        var prefixes = new PrefixMaps(t!, w, terms.Keep);
        var (mBefore, mAfter) = prefixes.From(Begin(before.M, prefixes.Total).End());
        return new(mBefore, normalizers.Before, (mAfter, normalizers.After));
    }

    private StretchScan Begin(Tensor initial, StretchMap? own)
    {
        var isSum = !stretch.HasDocuments && (initial.dim() == 3 || !rule.UsesNormalizer); // every rank must come to the same
        return StretchScan.Begin(stretch, initial, own ?? new((null, Nothing(initial)), null), isSum);
    }

    /// <summary>The map X -> X + W of the whole stretch, or one that clears X first where a document starts.</summary>
    private StretchMap Sum(Tensor writes) => new((null, SegmentScan.Total(writes, terms!.Keep)), terms.Keep?.all(1));

    /// <summary>0 where nothing is written, with a graph like that of what other ranks write: back-propagation must meet each exchange on every rank.</summary>
    private Tensor Nothing(Tensor like)
    {
        var nothing = zeros_like(like).add(Stretch.Anchor(tokens.Keys, like.dtype), Scalars.One);
        return like.dim() == 3 ? nothing : nothing.add(Stretch.Anchor(tokens.Values, like.dtype), Scalars.One);
    }
}
