using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>A plain attention layer: causal over the whole length, in one fused call.</summary>
internal sealed class CausalAttention(LayerWeights weights)
{
    /// <param name="x">(B, T, D)</param>
    /// <returns>(B, T, D)</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (q, k, v) = (weights.Project(x, weights.Query), weights.Project(x, weights.Key), weights.Project(x, weights.Value));
        return weights.ProjectOutput(nn.functional.scaled_dot_product_attention(q, k, v, null, 0, true)).MoveToOuterDisposeScope();
    }
}
