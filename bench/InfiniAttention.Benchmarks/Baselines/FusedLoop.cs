using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>
/// A hand-optimised loop: one segment at a time with the state carried over, fused attention, no copies of the heads, in-place
/// operations where autograd allows them, and the input split once, so that its gradient is assembled once.
/// </summary>
internal sealed class FusedLoop(LayerWeights weights)
{
    /// <param name="x">(B, T, D), T a multiple of N.</param>
    /// <returns>(B, T, D)</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, n, width) = (x.shape[0], weights.SegmentLength, weights.HeadWidth);
        var share = weights.Gate.sigmoid().view(-1, 1, 1);                 // (H, 1, 1)
        var localShare = 1 - share;
        var memory = zeros(batch, weights.Heads, width, width, x.dtype, x.device);
        var normalizer = zeros(batch, weights.Heads, width, 1, x.dtype, x.device);
        var segments = x.split(n, 1);
        var outputs = new List<Tensor>();
        for (var s = 0; s < segments.Length; s++)
        {
            using var segment = NewDisposeScope();
            var tokens = segments[s];
            var (q, k, v) = (weights.Project(tokens, weights.Query), weights.Project(tokens, weights.Key), weights.Project(tokens, weights.Value));
            var attended = nn.functional.scaled_dot_product_attention(q, k, v, null, 0, true);
            if (s > 0)
            {
                var sigmaQ = FeatureMap(q);
                var perDenominator = share / sigmaQ.matmul(normalizer);    // (B, H, N, 1)
                var local = is_grad_enabled() ? attended * localShare : attended.mul_(localShare);
                attended = local.addcmul_(sigmaQ.matmul(memory), perDenominator, 1);
            }

            if (s + 1 < segments.Length)
            {
                var sigmaK = FeatureMap(k);
                var (added, addedNormalizer) = (sigmaK.transpose(-2, -1).matmul(v), sigmaK.sum(-2).unsqueeze(-1));
                memory = Add(memory, added);
                normalizer = Add(normalizer, addedNormalizer);
            }

            outputs.Add(weights.ProjectOutput(attended).MoveToOuterDisposeScope());
        }

        return cat(outputs, 1).MoveToOuterDisposeScope();
    }

    private static Tensor FeatureMap(Tensor x) => nn.functional.elu(x, 1).add_(1);

    private static Tensor Add(Tensor state, Tensor added) => is_grad_enabled() ? (state + added).MoveToOuterDisposeScope() : state.add_(added);
}
