using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>sigma(x) = ELU(x) + 1, the feature map of the memory's keys and queries.</summary>
internal static class FeatureMap
{
    /// <summary>sigma, computed as max(x, 0) + exp(min(x, 0)), which stays precise where ELU + 1 cancels.</summary>
    /// <remarks>
    /// The exponent's lower limit keeps it so far above 0 that a denominator sigma(q) z is 0 only for a memory to which nothing was
    /// written, and that the square of its reciprocal, which gradients need, is finite unless write weights are tiny. Its gradient
    /// is that of ELU, one pass: with gradients on, the graph records ELU, whose result is then replaced by the precise value.
    /// </remarks>
    public static Tensor Apply(Tensor x)
    {
        using var scope = NewDisposeScope();
        var recorded = is_grad_enabled() && x.requires_grad ? x.elu(Scalars.One, Scalars.One, Scalars.One) : null;
        using var unrecorded = no_grad();
        var exponential = x.clamp(x.dtype == ScalarType.Float64 ? Scalars.FeatureFloor64 : Scalars.FeatureFloor32, Scalars.Zero).exp_();
        var positive = recorded?.clamp_min_(Scalars.Zero) ?? x.clamp_min(Scalars.Zero);
        return positive.add_(exponential, Scalars.One).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// sigma of heads, then a reshape per head for batched products. sigma comes first, while a token's heads are adjacent in memory as their
    /// projection wrote them: in any other order its gradient is several times slower.
    /// </summary>
    /// <param name="heads">(B, S, n, G, R, K)</param>
    /// <param name="type">The memory's type.</param>
    /// <param name="norm">The norm applied before sigma; null for none.</param>
    /// <returns>(B*S*G, R*n, K)</returns>
    public static Tensor ApplyToHeads(Tensor heads, ScalarType type, Func<Tensor, Tensor>? norm = null)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, n, keyHeads, group, width) = QueryShape.Of(heads);
        var x = Describe.As(heads, type);
        return Apply(norm?.Invoke(x) ?? x).permute(0, 1, 3, 4, 2, 5).reshape(batch * segments * keyHeads, group * n, width).MoveToOuterDisposeScope();
    }

    /// <summary>sigma z of each token, the denominator of equations 7 and 9.</summary>
    /// <param name="sigma">(P, n, K)</param>
    /// <param name="normalizer">z, (P, 1, K)</param>
    /// <param name="mayOverwrite">Whether sigma may be overwritten.</param>
    /// <returns>(P, n, 1)</returns>
    /// <remarks>A batched matrix-vector product is slower than a product and a sum, but its gradient is cheaper.</remarks>
    public static Tensor Denominator(Tensor sigma, Tensor normalizer, bool mayOverwrite = false)
    {
        if (is_grad_enabled())
        {
            using var column = normalizer.transpose(1, 2);
            return sigma.bmm(column);
        }

        using var products = mayOverwrite ? sigma.mul_(normalizer) : sigma.mul(normalizer);
        return products.sum(dim: -1, keepdim: true);
    }
}
