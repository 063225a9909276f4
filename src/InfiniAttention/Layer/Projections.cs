using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The projections of a layer: q (…, H*K), k (…, G*K) and v (…, G*V) from x (…, D), and from the heads' outputs (…, H*V) back
/// to (…, D). They are the layer's own, or those of a block that keeps its weights in another layout.
/// </summary>
internal sealed record Projections(Func<Tensor, Tensor> Query, Func<Tensor, Tensor> Key, Func<Tensor, Tensor> Value, Func<Tensor, Tensor> Output);
