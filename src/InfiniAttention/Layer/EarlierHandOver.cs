using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>With two segments in view, the last segment of each rank's stretch is handed to the next rank, whose first queries see it.</summary>
/// <remarks>B batch, N tokens, G key/value heads, K key width, V value width.</remarks>
internal static class EarlierHandOver
{
    /// <summary>The segment before this rank's stretch, of which the caller becomes a holder.</summary>
    /// <param name="stretch">This rank's stretch.</param>
    /// <param name="tokens">Its tokens: whole segments, or on the last rank perhaps a part of one.</param>
    /// <param name="first">The segment before the first rank's stretch; null if there is none.</param>
    /// <param name="length">N</param>
    public static EarlierSegment Exchange(Stretch stretch, SegmentTokens tokens, EarlierSegment? first, long length)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, heads, width, valueWidth) = (tokens.Keys.size(0), tokens.Keys.size(1), tokens.Keys.size(3), tokens.Keys.size(4), tokens.Values.size(4));
        var (keys, values, hidden) = tokens.Passed;
        var isWhole = tokens.Length == length;
        var (keySize, valueSize) = (batch * length * heads * width, batch * length * heads * valueWidth);
        var sent = isWhole
            ? cat([Last(keys).reshape(-1), Last(values).reshape(-1)])
            : zeros([keySize + valueSize], keys.dtype, keys.device).add(Stretch.Anchor(keys, keys.dtype), Scalars.One).add(Stretch.Anchor(values, keys.dtype), Scalars.One);
        var received = NextRankFunction.Run(stretch, sent);
        var receivedHidden = hidden is null ? null
            : Shifted(stretch.Group, (isWhole ? Last(hidden) : zeros([batch, 1, length], ScalarType.Bool, keys.device)).to(ScalarType.Byte).contiguous(), step: 1).to(ScalarType.Bool);

        if (stretch.IsFirst && first is not null)
        {
            first.Hold();
            return first;
        }

        var receivedKeys = received.narrow(0, 0, keySize).view(batch, 1, length, heads, width);
        var receivedValues = received.narrow(0, keySize, valueSize).view(batch, 1, length, heads, valueWidth);
        return new(receivedKeys, receivedValues, stretch.IsFirst ? ones([batch, 1, length], ScalarType.Bool, keys.device) : receivedHidden);

        Tensor Last(Tensor perSegment) => perSegment.narrow(1, segments - 1, 1);
    }

    /// <summary>A tensor of the rank before; the first rank gets 0. The gradient goes back to that rank.</summary>
    private sealed class NextRankFunction : ExchangeFunction<NextRankFunction>
    {
        /// <inheritdoc/>
        protected override Tensor Exchange(autograd.AutogradContext? ctx, Tensor x, ISequenceGroup group, object?[] arguments) => Shifted(group, x, step: 1);

        /// <inheritdoc/>
        protected override (Tensor OfX, Tensor?[] OfArguments) ExchangeGradient(autograd.AutogradContext ctx, Tensor gradient, ISequenceGroup group) =>
            (Shifted(group, gradient, step: -1), []);
    }

    /// <summary>Sends a tensor <paramref name="step"/> ranks on, and returns that of the rank as far behind, or 0 if there is none.</summary>
    private static Tensor Shifted(ISequenceGroup group, Tensor sent, int step)
    {
        var received = zeros_like(sent);
        var (next, previous) = (group.Rank + step, group.Rank - step);
        var isSenderFirst = group.Rank % 2 == 0; // neighbours alternate, so that no two wait for each other
        if (isSenderFirst)
        {
            Send();
        }

        if (previous >= 0 && previous < group.Size)
        {
            group.Receive(received, previous);
        }

        if (!isSenderFirst)
        {
            Send();
        }

        return received;

        void Send()
        {
            if (next >= 0 && next < group.Size)
            {
                group.Send(sent, next);
            }
        }
    }
}
