using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>A layer's weights and shape, so that every baseline uses the same tensors as the layer that it is compared with.</summary>
/// <remarks>B batch, T tokens, D model width, H heads, K head width, N segment length.</remarks>
internal sealed class LayerWeights
{
    public LayerWeights(InfiniAttentionModule layer)
    {
        var options = layer.Options;
        var width = options.HeadDim ?? options.EmbedDim / options.NumHeads;
        var plain = new InfiniAttentionOptions
        {
            EmbedDim = options.EmbedDim,
            NumHeads = options.NumHeads,
            SegmentLength = options.SegmentLength,
            HeadDim = options.HeadDim,
            GateInit = options.GateInit,
            BlockTokens = options.BlockTokens,
        };
        if (options != plain)
        {
            throw new ArgumentException(
                "The baselines compute the plain layer: a key head for each query head, no positions, no bias, the linear rule, no other option.", nameof(layer));
        }

        var parameters = layer.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter);
        (Query, Key, Value) = (parameters["q_proj.weight"], parameters["k_proj.weight"], parameters["v_proj.weight"]);
        (Output, Gate) = (parameters["o_proj.weight"], layer.Gate);
        (Heads, HeadWidth, SegmentLength) = (options.NumHeads, width, options.SegmentLength);
    }

    public Parameter Query { get; }

    public Parameter Key { get; }

    public Parameter Value { get; }

    public Parameter Output { get; }

    public Parameter Gate { get; }

    public long Heads { get; }

    public long HeadWidth { get; }

    public long SegmentLength { get; }

    /// <summary>(B, n, D) to the heads of one projection, (B, H, n, K), without a copy.</summary>
    public Tensor Project(Tensor x, Parameter weight) =>
        nn.functional.linear(x, weight).view(x.shape[0], x.shape[1], Heads, HeadWidth).transpose(1, 2);

    /// <summary>(B, H, n, K) to the layer's output, (B, n, D).</summary>
    public Tensor ProjectOutput(Tensor heads) =>
        nn.functional.linear(heads.transpose(1, 2).reshape(heads.shape[0], heads.shape[2], Heads * HeadWidth), Output);
}
