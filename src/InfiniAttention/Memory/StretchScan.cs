using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The recurrence X_r = T_{r-1} X_{r-1} + W_{r-1} over the stretches of a group's ranks; X is M or z before rank r's stretch, and T and W are
/// those of a whole stretch. Without T it is an exclusive sum, which the ranks compute together while this one does other work. With T, or
/// where a document starts, X is handed on from rank to rank.
/// </summary>
internal sealed class StretchScan
{
    private readonly Stretch stretch;
    private readonly Tensor initial;
    private readonly StretchMap own;
    private readonly (Task Task, PendingSum Sum)? pending;

    private StretchScan(Stretch stretch, Tensor initial, StretchMap own, bool isSum)
    {
        (this.stretch, this.initial, this.own) = (stretch, initial, own);
        if (isSum)
        {
            var sum = empty_like(own.Map.W);
            pending = (stretch.Group.ExclusiveSum(own.Map.W.detach(), sum), new(sum));
        }
    }

    /// <summary>Begins the exchange; the tensors belong to the caller's dispose scope and must live until it ends.</summary>
    /// <param name="stretch">This rank's stretch.</param>
    /// <param name="initial">X before the first rank's stretch, (B, G, …); 0 on the others.</param>
    /// <param name="own">This rank's map.</param>
    /// <param name="isSum">Whether no rank's map has T or forgets.</param>
    public static StretchScan Begin(Stretch stretch, Tensor initial, StretchMap own, bool isSum)
    {
        // The first rank hands on what it was given and what it writes. On the others the initial 0 only keeps the graphs alike.
        var (t, w) = (own.Map.T, own.Of(Describe.As(initial, own.Map.W.dtype)));
        return new(stretch, initial, own with { Map = (t, Describe.As(w, initial.dtype).contiguous()) }, isSum);
    }

    /// <summary>X before this rank's stretch.</summary>
    public Tensor End()
    {
        var (t, w) = own.Map;
        var before = pending is var (task, sum) ? ExclusiveSumFunction.Run(stretch, w, task, sum) : HandOnFunction.Run(stretch, w, t, own.Keep);
        return initial.add(before, Scalars.One); // the first rank receives 0
    }

    /// <summary>The sum of W over the ranks before this one. Its gradient is the sum over the ranks after it.</summary>
    private sealed class ExclusiveSumFunction : ExchangeFunction<ExclusiveSumFunction>
    {
        /// <inheritdoc/>
        protected override Tensor Exchange(autograd.AutogradContext? ctx, Tensor x, ISequenceGroup group, object?[] arguments)
        {
            var (task, sum) = ((Task)arguments[0]!, (PendingSum)arguments[1]!);
            task.GetAwaiter().GetResult();
            return sum.Tensor.alias();
        }

        /// <inheritdoc/>
        protected override (Tensor OfX, Tensor?[] OfArguments) ExchangeGradient(autograd.AutogradContext ctx, Tensor gradient, ISequenceGroup group)
        {
            var sum = empty_like(gradient);
            group.ExclusiveSum(gradient, sum, fromLast: true).GetAwaiter().GetResult();
            return (sum, []);
        }
    }

    /// <summary>X, which the rank before hands on, and which goes on to the next as T X + W. The gradient comes back the other way.</summary>
    private sealed class HandOnFunction : ExchangeFunction<HandOnFunction>
    {
        /// <inheritdoc/>
        protected override Tensor Exchange(autograd.AutogradContext? ctx, Tensor x, ISequenceGroup group, object?[] arguments)
        {
            var (t, keep) = ((Tensor?)arguments[0], (Tensor?)arguments[1]);
            var received = HandOn(group, new StretchMap((t, x), keep), step: 1);
            ctx?.save_for_backward([t!, keep!, received]);
            return received;
        }

        /// <inheritdoc/>
        protected override (Tensor OfX, Tensor?[] OfArguments) ExchangeGradient(autograd.AutogradContext ctx, Tensor gradient, ISequenceGroup group)
        {
            var saved = ctx.get_saved_variables();
            var (t, keep, x) = (Valid(saved[0]), Valid(saved[1]), saved[2]);

            // What was handed on has the gradient h. The gradient of X is T^T h plus that of what this rank reads.
            var handedOn = HandOn(group, new StretchMap((t?.transpose(-2, -1), gradient), keep), step: -1);
            var ofT = t is null ? null : Describe.As(handedOn, t.dtype).matmul(Describe.As(StretchMap.Kept(x, keep), t.dtype).transpose(-2, -1));
            return (handedOn, [ofT]);
        }

        /// <summary>
        /// Receives X from the rank <paramref name="step"/> before, 0 if there is none, and sends the map of it on, head by head, so that the ranks work at the same time.
        /// </summary>
        private static Tensor HandOn(ISequenceGroup group, StretchMap map, int step)
        {
            var (previous, next) = (group.Rank - step, group.Rank + step);
            var received = zeros_like(map.Map.W);
            for (var head = 0; head < received.size(1); head++)
            {
                using var scope = NewDisposeScope();
                var ofHead = map.OfHead(head);
                var x = zeros_like(ofHead.Map.W);
                if (previous >= 0 && previous < group.Size)
                {
                    group.Receive(x, previous);
                    received.narrow(1, head, 1).copy_(x);
                }

                if (next >= 0 && next < group.Size)
                {
                    group.Send(ofHead.Of(x).contiguous(), next);
                }
            }

            return received;
        }

        private static Tensor? Valid(Tensor? tensor) => tensor is null || tensor.IsInvalid ? null : tensor;
    }

    /// <summary>Where a sum is being written; wrapped, because a tensor among a function's arguments would be an input of it.</summary>
    private sealed record PendingSum(Tensor Tensor);
}

/// <summary>The map of a whole stretch, X -> T X + W.</summary>
/// <param name="Map">T (B, G, K, K), null for the identity; W (B, G, …)</param>
/// <param name="Keep">(B) bool: false for a row in which a document starts, which clears X before the stretch; null if all are true.</param>
internal sealed record StretchMap((Tensor? T, Tensor W) Map, Tensor? Keep)
{
    /// <summary>The map of one head.</summary>
    public StretchMap OfHead(long head) => new((Map.T?.narrow(1, head, 1), Map.W.narrow(1, head, 1).contiguous()), Keep);

    /// <summary>T X + W, in the type of W.</summary>
    public Tensor Of(Tensor x)
    {
        var (t, w) = Map;
        var kept = Kept(x, Keep);
        return (t is null ? kept : Describe.As(SegmentScan.Product(t, Describe.As(kept, t.dtype)), w.dtype)).add(w, Scalars.One);
    }

    /// <summary>X with 0 in the rows that forget: cleared, not multiplied by 0, because what is forgotten may be infinite or NaN.</summary>
    public static Tensor Kept(Tensor x, Tensor? keep)
    {
        if (keep is null)
        {
            return x;
        }

        var forgotten = keep.logical_not();
        return x.masked_fill(x.dim() == 3 ? forgotten.view(-1, 1, 1) : forgotten.view(-1, 1, 1, 1), Scalars.Zero);
    }
}
