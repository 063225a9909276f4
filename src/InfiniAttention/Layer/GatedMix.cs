using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Equation 10: A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot.</summary>
/// <remarks>B batch, S segments, n tokens of each, G key/value heads, R = H/G query heads of each, V value width.</remarks>
internal static class GatedMix
{
    /// <param name="beta">The gates, (H)</param>
    /// <param name="local">A_dot, (B, S, n, G, R, V); overwritten without gradients.</param>
    /// <param name="retrieved">A_mem as its numerator (B, S, n, G, R, V) and denominator (B, S, n, G, R, 1)</param>
    /// <param name="seesMemory">(B, S, n) bool: false for a token of a document that the memory does not hold; null if all do.</param>
    /// <param name="rule">What a query that finds nothing gets, and the norm of A_mem.</param>
    /// <returns>(B, S, n, G, R, V)</returns>
    public static Tensor Of(Tensor beta, Tensor local, (Tensor Numerator, Tensor Denominator) retrieved, Tensor? seesMemory, ReadRule rule)
    {
        using var scope = NewDisposeScope();
        var (numerator, denominator) = retrieved;
        var found = denominator.ne(Scalars.Zero); // NaN counts as found: a spoilt memory must not pass for an empty one
        if (seesMemory is not null)
        {
            found = found.logical_and(seesMemory.unsqueeze(-1).unsqueeze(-1).unsqueeze(-1));
            numerator = numerator.masked_fill(found.logical_not(), Scalars.Zero);
        }

        var heads = PerHead(beta, local);
        var memoryShare = heads.sigmoid().mul(found.to(local.dtype));
        var localShare = rule.Empty == EmptyMemory.LocalOnly ? memoryShare.neg().add_(Scalars.One, Scalars.One) : heads.neg().sigmoid();
        var mixed = is_grad_enabled() ? local.mul(localShare) : local.mul_(localShare);
        denominator = denominator.masked_fill(found.logical_not(), Scalars.One);
        if (rule.Norm is null)
        {
            return mixed.addcmul_(numerator, memoryShare.div(denominator), Scalars.One).MoveToOuterDisposeScope();
        }

        var (weighted, factor) = rule.Norm.Read(numerator, denominator);
        return mixed.addcmul_(weighted, memoryShare.mul(factor), Scalars.One).MoveToOuterDisposeScope();
    }

    /// <summary>Equation 10 for an empty memory.</summary>
    public static Tensor OfEmpty(Tensor beta, Tensor local, EmptyMemory emptyMemory)
    {
        using var scope = NewDisposeScope();
        return (emptyMemory == EmptyMemory.LocalOnly ? local.alias() : local.mul(PerHead(beta, local).neg().sigmoid())).MoveToOuterDisposeScope();
    }

    /// <summary>beta, (G, R, 1)</summary>
    private static Tensor PerHead(Tensor beta, Tensor heads) => beta.view(heads.size(3), heads.size(4), 1);
}
