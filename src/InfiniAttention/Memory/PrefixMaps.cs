using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The maps of a stretch's segments composed from its beginning: M before segment s is T_s M + W_s of the M before the stretch. They are computed
/// before that is known, so that every rank of a group composes at the same time, and hands on with one product.
/// </summary>
/// <remarks>B batch, S segments, G key/value heads, K key width, V value width.</remarks>
internal sealed class PrefixMaps
{
    private readonly long width; // K
    private readonly Tensor before; // T and W side by side, before each segment, (B, S, G, K, K + V)
    private readonly Tensor after; // and after the last, (B, G, K, K + V)
    private readonly Tensor? keep;

    /// <param name="t">T of each segment, (B, S, G, K, K)</param>
    /// <param name="w">W of each segment, (B, S, G, K, V)</param>
    /// <param name="keep">(B, S) bool: false for a segment in which a document starts, which clears M before it; null if all are true.</param>
    public PrefixMaps(Tensor t, Tensor w, Tensor? keep)
    {
        var (batch, segments, heads) = (w.size(0), w.size(1), w.size(2));
        (width, this.keep) = (w.size(3), keep);
        var identity = eye(width, width, t.dtype, w.device).expand(batch, heads, width, width);
        var start = cat([identity, zeros([batch, heads, width, w.size(4)], t.dtype, w.device)], -1);
        var writes = cat([zeros([batch, segments, heads, width, width], w.dtype, w.device), w], -1);
        (before, after) = SegmentScan.Run(start, t, writes, keep);
        Total = new((after.narrow(-1, 0, width), after.narrow(-1, width, w.size(4))), keep?.all(1));
    }

    /// <summary>The map of the whole stretch.</summary>
    public StretchMap Total { get; }

    /// <summary>M before each segment and after the last, from M before the stretch, in its type.</summary>
    public (Tensor Before, Tensor After) From(Tensor m)
    {
        var (valueWidth, segments) = (after.size(3) - width, before.size(1));
        var start = Describe.As(m, before.dtype);
        var each = before.narrow(-1, 0, width).matmul(start.unsqueeze(1));
        if (keep is not null && segments > 1)
        {
            // Cleared, not multiplied by 0: what is forgotten may be infinite or NaN.
            var forgets = keep.logical_not().cumsum(1, int64).ne(Scalars.Zero);
            var hasForgotten = cat([zeros_like(forgets.narrow(1, 0, 1)), forgets.narrow(1, 0, segments - 1)], 1);
            each = each.masked_fill(hasForgotten.view(-1, segments, 1, 1, 1), Scalars.Zero);
        }

        return (Describe.As(each.add(before.narrow(-1, width, valueWidth), Scalars.One), m.dtype), Describe.As(Total.Of(start), m.dtype));
    }
}
