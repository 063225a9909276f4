using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>A plain attention layer that decodes one token at a time over a preallocated cache of the last N keys and values.</summary>
internal sealed class CachedAttention : IDisposable
{
    private readonly LayerWeights weights;
    private readonly Tensor keys;   // (B, H, N, K)
    private readonly Tensor values; // (B, H, N, K)
    private long next;

    /// <param name="weights">The layer's weights.</param>
    /// <param name="batch">B</param>
    /// <param name="isFull">Whether the cache holds N tokens from the start; otherwise it fills up, and starts over when it is full.</param>
    public CachedAttention(LayerWeights weights, long batch, bool isFull)
    {
        this.weights = weights;
        IsFull = isFull;
        var like = weights.Key;
        keys = randn([batch, weights.Heads, weights.SegmentLength, weights.HeadWidth], like.dtype, like.device).DetachFromDisposeScope();
        values = randn_like(keys).DetachFromDisposeScope();
    }

    private bool IsFull { get; }

    /// <param name="x">(B, 1, D)</param>
    /// <returns>(B, 1, D)</returns>
    public Tensor Step(Tensor x)
    {
        using var scope = NewDisposeScope();
        var q = weights.Project(x, weights.Query);
        keys.narrow(2, next, 1).copy_(weights.Project(x, weights.Key));
        values.narrow(2, next, 1).copy_(weights.Project(x, weights.Value));
        next = (next + 1) % weights.SegmentLength;
        var length = IsFull || next == 0 ? weights.SegmentLength : next;
        var attended = length == weights.SegmentLength
            ? nn.functional.scaled_dot_product_attention(q, keys, values)
            : nn.functional.scaled_dot_product_attention(q, keys.narrow(2, 0, length), values.narrow(2, 0, length));
        return weights.ProjectOutput(attended).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        keys.Dispose();
        values.Dispose();
    }
}
