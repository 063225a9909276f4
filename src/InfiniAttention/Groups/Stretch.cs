using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>A call of a model on this process's stretch of a sequence that a group shares.</summary>
internal sealed class Stretch(ISequenceGroup group, long offset, bool hasDocuments) : IDisposable
{
    private Tensor? order;

    public ISequenceGroup Group => group;

    /// <summary>Tokens of the ranks before this one.</summary>
    public long Offset => offset;

    /// <summary>Whether documents may start in the stretch of some rank.</summary>
    public bool HasDocuments => hasDocuments;

    public bool IsFirst => group.Rank == 0;

    public bool IsLast => group.Rank == group.Size - 1;

    /// <summary>
    /// Runs an exchange between the ranks as a function of the graph. Every exchange of a call takes an output of the one before it, so that
    /// back-propagation meets them in the same order on every rank, whatever else differs between their graphs.
    /// </summary>
    /// <param name="apply">Applies the function, given the output of the exchange before (null for the first); its last output is for the next.</param>
    public Tensor Ordered(Func<Tensor?, List<Tensor>> apply)
    {
        var outputs = apply(order);
        order?.Dispose();
        order = outputs[^1].DetachFromDisposeScope();
        return outputs[0];
    }

    /// <summary>A 0 whose graph leads to a tensor.</summary>
    public static Tensor Anchor(Tensor tensor, ScalarType type)
    {
        using var scope = NewDisposeScope();
        var element = tensor.reshape(-1).narrow(0, 0, 1);
        return Describe.As(element.masked_fill(element.isfinite().logical_or(element.isfinite().logical_not()), Scalars.Zero), type).MoveToOuterDisposeScope();
    }

    public void Dispose() => order?.Dispose();
}
