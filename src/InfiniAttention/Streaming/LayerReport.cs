namespace InfiniAttention;

/// <summary>What one layer of a stream holds: <see cref="SegmentStreamer.Report"/>.</summary>
/// <param name="Layer">The layer's name in the model; empty for a model that is the layer.</param>
/// <param name="Position">Tokens of each row consumed so far.</param>
/// <param name="Gates">beta of each query head.</param>
/// <param name="MemoryNorms">The Frobenius norm of M of each key/value head, averaged over the rows.</param>
/// <param name="SmallestNormalizers">The smallest number in z of each key/value head, over all rows; 0 while a row has an empty memory.</param>
/// <param name="StateBytes">Bytes that the layer's state holds: M, z, the open segment and, with <see cref="InfiniAttentionOptions.LocalSegments"/> = 2, the segment before it.</param>
/// <param name="FullCacheBytes">Bytes that full attention would hold at this position: a key and a value of every token, in the layer's type.</param>
public sealed record LayerReport(
    string Layer, long Position, IReadOnlyList<double> Gates, IReadOnlyList<double> MemoryNorms, IReadOnlyList<double> SmallestNormalizers, long StateBytes, long FullCacheBytes)
{
    /// <summary>sigmoid(beta) of each query head: the memory's share of the head's output.</summary>
    public IReadOnlyList<double> MemoryShares => [.. Gates.Select(beta => 1 / (1 + Math.Exp(-beta)))];
}

/// <summary>The memory of one layer after a segment was written to it: <see cref="SegmentStreamer.SegmentWritten"/>.</summary>
/// <param name="Layer">The layer's name in the model; empty for a model that is the layer.</param>
/// <param name="Segment">The segment's index in the stream, from 0.</param>
/// <param name="MemoryNorms">The Frobenius norm of M of each key/value head, averaged over the rows.</param>
/// <param name="SmallestNormalizers">The smallest number in z of each key/value head, over all rows.</param>
/// <param name="RetrievalErrors">
/// The error of what the segment's own keys retrieve against its values, for each key/value head, over all rows and all tokens
/// that were written: |A_mem - V| / |V|. 0 is exact recall; NaN if nothing was written.
/// </param>
public sealed record SegmentReport(
    string Layer, long Segment, IReadOnlyList<double> MemoryNorms, IReadOnlyList<double> SmallestNormalizers, IReadOnlyList<double> RetrievalErrors);
