using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Computes each window's share of the loss over the whole input.</summary>
internal sealed class TokenLosses
{
    private readonly Tensor target;
    private readonly Func<Tensor, Tensor, Tensor> loss;
    private readonly LossReduction reduction;
    private readonly long ignoreIndex;
    private readonly bool hasIgnored;

    /// <exception cref="ArgumentException">The target does not fit the input, or no target counts.</exception>
    public TokenLosses(Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, LossReduction reduction, long ignoreIndex)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(loss);
        if (!Enum.IsDefined(reduction))
        {
            throw new ArgumentException($"reduction is {reduction}; it must be Mean or Sum.", nameof(reduction));
        }

        if (target.dim() < 2 || target.size(0) != input.size(0) || target.size(1) != input.size(1))
        {
            throw new ArgumentException($"target has shape {Describe.Shape(target)}; it must begin with (B, T) = ({input.size(0)}, {input.size(1)}), like the input.", nameof(target));
        }

        (this.target, this.loss, this.reduction, this.ignoreIndex) = (target, loss, reduction, ignoreIndex);
        Count = target.size(0) * target.size(1);
        if (target.dim() == 2 && target.dtype is ScalarType.Int64 or ScalarType.Int32 or ScalarType.Int16)
        {
            using var scope = NewDisposeScope();
            using Scalar index = ignoreIndex;
            var ignored = (long)Describe.Number(target.eq(index).sum());
            (hasIgnored, Count) = (ignored > 0, Count - ignored);
            if (Count == 0 && reduction == LossReduction.Mean)
            {
                throw new ArgumentException($"target holds only {ignoreIndex}, which does not count: there is nothing to take the mean of.", nameof(target));
            }
        }
    }

    /// <summary>How many targets count.</summary>
    public long Count { get; }

    /// <summary>The share of a window in the loss, a scalar.</summary>
    /// <param name="output">The model's outputs, (B, window, …)</param>
    /// <param name="start">The window's first token.</param>
    public Tensor Of(Tensor output, long start)
    {
        using var scope = NewDisposeScope();
        var window = target.narrow(1, start, output.size(1));
        var losses = loss(output, window);
        if (!Describe.HasShape(losses, window.size(0), window.size(1)))
        {
            if (reduction == LossReduction.Sum && losses.numel() == 1)
            {
                return losses.alias().MoveToOuterDisposeScope();
            }

            throw new InvalidOperationException(
                $"The loss function returned a tensor of shape {Describe.Shape(losses)}; it must return one number per token, (B, window) = ({window.size(0)}, {window.size(1)}) "
                    + $"(reduction: none), or their sum with {nameof(LossReduction)}.{nameof(LossReduction.Sum)}.");
        }

        losses = Describe.As(losses, MemoryState.TypeFor(losses.dtype));
        if (hasIgnored)
        {
            using Scalar index = ignoreIndex;
            losses = losses.masked_fill(window.eq(index), Scalars.Zero);
        }

        var sum = losses.sum();
        if (reduction == LossReduction.Mean)
        {
            using Scalar share = 1.0 / Count;
            sum = sum.mul(share);
        }

        return sum.MoveToOuterDisposeScope();
    }
}
