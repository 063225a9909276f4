using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>
/// Only the kernels that no implementation can do without: for each block of tokens four projections, local attention over
/// its segments, and two memory products, sigma(K)^T V and sigma(Q) M, each on tensors that already have the layout it needs.
/// </summary>
internal sealed class UnavoidableKernels
{
    private readonly LayerWeights weights;
    private readonly Tensor x;                                   // (B, T, D)
    private readonly Tensor block;                               // (B, C, D), C tokens in a block
    private readonly Tensor q, k, v;                             // (B*S, H, N, K)
    private readonly Tensor queries, keys, values, memory;       // (B*S*H, N, K), and (B*S*H, K, K)
    private readonly long blockTokens;

    /// <param name="weights">The layer's weights.</param>
    /// <param name="x">(B, T, D), T a multiple of the block.</param>
    /// <param name="blockTokens">Tokens of a row in each block, a multiple of N.</param>
    public UnavoidableKernels(LayerWeights weights, Tensor x, long blockTokens)
    {
        if (x.shape[1] % blockTokens != 0 || blockTokens % weights.SegmentLength != 0)
        {
            throw new ArgumentException($"The block is {blockTokens} tokens; it must divide T = {x.shape[1]} and be a multiple of N = {weights.SegmentLength}.", nameof(blockTokens));
        }

        (this.weights, this.x, this.blockTokens) = (weights, x, blockTokens);
        var (batch, n, width) = (x.shape[0], weights.SegmentLength, weights.HeadWidth);
        var rows = batch * blockTokens / n;
        block = randn([batch, blockTokens, weights.Heads * width], x.dtype, x.device);
        q = randn([rows, weights.Heads, n, width], x.dtype, x.device);
        (k, v) = (randn_like(q), randn_like(q));
        (queries, keys, values) = (q.view(-1, n, width), k.view(-1, n, width), v.view(-1, n, width));
        memory = randn([rows * weights.Heads, width, width], x.dtype, x.device);
        var (inner, model) = ((double)weights.Heads * width, (double)x.shape[2]);
        var element = x.ElementSize;
        Parts =
        [
            new("query, key and value projections", 3 * 2 * model * inner, element * 3 * (model + inner),
                start => Drop(Project(start, weights.Query), Project(start, weights.Key), Project(start, weights.Value))),
            new("local attention", 2 * 2 * inner * (n + 1) / 2, element * 4 * inner, _ => Drop(nn.functional.scaled_dot_product_attention(q, k, v, null, 0, true))),
            new("memory update product", 2 * inner * width, element * 2 * inner, _ => Drop(keys.transpose(1, 2).bmm(values))),
            new("memory retrieval product", 2 * inner * width, element * 2 * inner, _ => Drop(queries.bmm(memory))),
            new("output projection", 2 * inner * model, element * (model + inner), _ => Drop(nn.functional.linear(block, weights.Output))),
        ];
    }

    public IReadOnlyList<Kernel> Parts { get; }

    /// <summary>All kernels over the whole length.</summary>
    public void Run() => Run(Parts);

    /// <summary>Some of the kernels over the whole length.</summary>
    public void Run(IReadOnlyList<Kernel> parts)
    {
        for (var start = 0L; start < x.shape[1]; start += blockTokens)
        {
            foreach (var part in parts)
            {
                part.Run(start);
            }
        }
    }

    private Tensor Project(long start, Tensor weight)
    {
        using var tokens = x.narrow(1, start, blockTokens);
        return nn.functional.linear(tokens, weight);
    }

    private static void Drop(params ReadOnlySpan<Tensor> results)
    {
        foreach (var result in results)
        {
            result.Dispose();
        }
    }
}

/// <summary>One kernel, with what it must compute and move for each token: inputs read once, outputs written once, weights not counted.</summary>
internal sealed record Kernel(string Name, double OperationsPerToken, double BytesPerToken, Action<long> Run);
