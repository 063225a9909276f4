using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>A call on one process's stretch of a sequence.</content>
public sealed partial class InfiniAttentionModule
{
    /// <summary>
    /// Attends this process's stretch of a sequence that the group shares. The stretches follow each other in the order of the ranks; between them
    /// only the memory crosses, M and z once a call (with <see cref="InfiniAttentionOptions.LocalSegments"/> = 2 also the last segment's keys and values). Every rank
    /// must call it, and if gradients are wanted must call <c>backward</c> too, on a loss that the output belongs to.
    /// </summary>
    /// <param name="state">The state before the whole sequence, the same on every rank, at a segment's beginning; null for an empty one.</param>
    /// <param name="x">This rank's stretch, (B, T, D): whole segments, on the last rank any number of tokens.</param>
    /// <param name="group">The group.</param>
    /// <param name="info">What is known about each token of the stretch; the same properties must be set on every rank.</param>
    /// <returns>The output for the stretch, (B, T, D), and the state after it, to be disposed of by the caller: on the last rank that after the sequence.</returns>
    /// <exception cref="ArgumentException">
    /// An argument does not have the shape, type or device that the layer needs, or the stretch is not a whole number of segments. Nothing was changed on any rank.
    /// </exception>
    /// <exception cref="InvalidOperationException">Another rank refused its arguments, or the ranks' arguments do not fit together. Nothing was changed on any rank.</exception>
    public (Tensor Output, MemoryState State) ForwardFrom(MemoryState? state, Tensor x, ISequenceGroup group, TokenInfo? info = null)
    {
        ArgumentNullException.ThrowIfNull(group);
        Agreement.Check(group, () =>
        {
            Check(state, x, info);
            CheckStretch(state, x, group);
        });
        Agreement.CheckSame(
            group, "rows, a state at another position, or other properties of its tokens",
            x.size(0), state?.Position ?? 0, Flag(is_grad_enabled()), Flag(x.requires_grad), Flag(info?.KeyPaddingMask is not null), Flag(info?.DocumentStarts is not null),
            Flag(info?.WriteWeights is not null), Flag(info?.WriteWeights?.requires_grad == true));
        var lengths = Agreement.Gather(group, x.size(1));
        using var stretch = new Stretch(group, (long)lengths.Take(group.Rank).Sum(rank => rank[0]), info?.DocumentStarts is not null);
        var (output, after) = Run(state, x, info, new(true, null, stretch));
        return (output, after!);

        static double Flag(bool value) => value ? 1 : 0;
    }

    private void CheckStretch(MemoryState? state, Tensor x, ISequenceGroup group)
    {
        if (state is not null && state.Position % Options.SegmentLength != 0)
        {
            throw new ArgumentException(
                $"state is at position {state.Position}, inside a segment; the stretches of a group begin at a multiple of SegmentLength = {Options.SegmentLength}.", nameof(state));
        }

        if (group.Rank < group.Size - 1 && x.size(1) % Options.SegmentLength != 0)
        {
            throw new ArgumentException(
                $"x has {x.size(1)} tokens on rank {group.Rank} of {group.Size}; "
                    + $"on every rank but the last it must be a whole number of segments of SegmentLength = {Options.SegmentLength}.",
                nameof(x));
        }
    }
}
