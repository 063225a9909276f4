using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>
/// The kernels that no implementation can do without, forward and backward: four projections, local attention and the two products of the
/// memory, with nothing element-wise between them. Each has its own graph and a fixed output gradient.
/// </summary>
/// <remarks>H heads, N segment length, K width of a head; keys and values as wide, as many key/value heads as query heads.</remarks>
internal sealed class TrainingKernels
{
    private readonly List<(Func<Tensor> Forward, Tensor Gradient)> parts = [];
    private readonly long blocks;

    /// <param name="weights">The layer's weights.</param>
    /// <param name="x">(B, T, D), T a multiple of the block.</param>
    /// <param name="blockTokens">Tokens of a row in each block, a multiple of N.</param>
    public TrainingKernels(LayerWeights weights, Tensor x, long blockTokens)
    {
        blocks = x.size(1) / blockTokens;
        var (batch, n, width) = (x.size(0), weights.SegmentLength, weights.HeadWidth);
        var rows = batch * blockTokens / n;
        var block = Leaf(randn([batch, blockTokens, x.size(2)], x.dtype, x.device));
        var heads = Leaf(randn([batch, blockTokens, weights.Heads * width], x.dtype, x.device));
        var (q, k, v) = (Leaf(Heads()), Leaf(Heads()), Leaf(Heads()));
        var (queries, keys, values) = (Leaf(Flat()), Leaf(Flat()), Leaf(Flat()));
        var memory = Leaf(randn([rows * weights.Heads, width, width], x.dtype, x.device));
        foreach (var weight in new[] { weights.Query, weights.Key, weights.Value })
        {
            Add(() => nn.functional.linear(block, weight));
        }

        Add(() => nn.functional.scaled_dot_product_attention(q, k, v, null, 0, true));
        Add(() => keys.transpose(1, 2).bmm(values));
        Add(() => queries.bmm(memory));
        Add(() => nn.functional.linear(heads, weights.Output));

        Tensor Heads() => randn([rows, weights.Heads, n, width], x.dtype, x.device);

        Tensor Flat() => randn([rows * weights.Heads, n, width], x.dtype, x.device);

        static Tensor Leaf(Tensor tensor) => tensor.requires_grad_(true);

        void Add(Func<Tensor> forward)
        {
            using var once = forward();
            parts.Add((forward, randn_like(once)));
        }
    }

    /// <summary>All kernels over the whole length.</summary>
    public void Run()
    {
        for (var block = 0L; block < blocks; block++)
        {
            foreach (var (forward, gradient) in parts)
            {
                using var output = forward();
                output.backward([gradient]);
            }
        }
    }
}
