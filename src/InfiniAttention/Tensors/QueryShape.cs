using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The sizes of the queries of a block, (B, S, n, G, R, K).</summary>
/// <param name="Batch">B</param>
/// <param name="Segments">S</param>
/// <param name="Tokens">n, tokens of each segment.</param>
/// <param name="KeyHeads">G, key/value heads.</param>
/// <param name="Group">R, query heads of each.</param>
/// <param name="Width">K</param>
internal readonly record struct QueryShape(long Batch, long Segments, long Tokens, long KeyHeads, long Group, long Width)
{
    public static QueryShape Of(Tensor q) => new(q.size(0), q.size(1), q.size(2), q.size(3), q.size(4), q.size(5));
}
