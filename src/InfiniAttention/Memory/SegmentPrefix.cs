using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Sums over the segments before each of S segments, all at once: one product with a triangle of ones, a cumulative sum that
/// runs at the speed of a matrix product. A segment that does not keep what is before it (a document starts in it) begins the
/// sum anew.
/// </summary>
internal sealed class SegmentPrefix
{
    private readonly Tensor? triangle;     // (1, S, S), or (B, S, S) with documents: which segments' writes are still there
    private readonly Tensor? keepsInitial; // (B, S, 1), with documents: whether what was there before the first segment still is

    private SegmentPrefix(Tensor? triangle, Tensor? keepsInitial, Tensor? keep)
    {
        (this.triangle, this.keepsInitial, Keep) = (triangle, keepsInitial, keep);
    }

    /// <summary>(B, S) bool: whether a segment keeps what is before it; null for all true.</summary>
    public Tensor? Keep { get; }

    /// <summary>The prefix of so many segments, in the type and on the device of <paramref name="like"/>; its tensors belong to the caller's dispose scope.</summary>
    public static SegmentPrefix Of(long segments, Tensor? keep, Tensor like)
    {
        if (segments == 1)
        {
            return new(null, null, keep);
        }

        using var scope = NewDisposeScope();
        if (keep is null)
        {
            return new(ones(1, segments, segments, like.dtype, like.device).tril(-1).MoveToOuterDisposeScope(), null, null);
        }

        // Segment s still holds what segment j < s wrote if as many documents had started up to j as before s.
        var started = (~keep).to(int64).cumsum(1);                                   // (B, S), segment included
        var startedBefore = cat([zeros_like(started.narrow(1, 0, 1)), started.narrow(1, 0, segments - 1)], 1);
        var holds = (startedBefore.unsqueeze(-1) == started.unsqueeze(-2)).tril(-1); // (B, S, S)
        return new(
            holds.to(like.dtype).MoveToOuterDisposeScope(),
            (startedBefore == Scalars.Zero).to(like.dtype).unsqueeze(-1).MoveToOuterDisposeScope(),
            keep);
    }

    /// <summary>The sums before each segment and after the last.</summary>
    /// <param name="added">(B, S, …): what each segment adds.</param>
    /// <param name="initial">(B, …): what was there before the first.</param>
    /// <returns>(B, S, …) and (B, …)</returns>
    public (Tensor Before, Tensor After) Sum(Tensor added, Tensor initial)
    {
        using var scope = NewDisposeScope();
        var (batch, segments) = (added.size(0), added.size(1));
        Tensor before;
        if (triangle is null)
        {
            before = initial.unsqueeze(1);
        }
        else
        {
            var carried = initial.reshape(batch, 1, -1);
            before = triangle.expand(batch, segments, segments).bmm(added.view(batch, segments, -1))
                .add_(keepsInitial is null ? carried : keepsInitial * carried).view(added.shape);
        }

        var last = before.select(1, segments - 1);
        var kept = Keep is null ? last : last * Flags(Keep.select(1, segments - 1), last);
        return (before.MoveToOuterDisposeScope(), (kept + added.select(1, segments - 1)).MoveToOuterDisposeScope());
    }

    /// <summary>Flags (B) or (B, S) as numbers, in the type and rank of <paramref name="like"/>.</summary>
    public static Tensor Flags(Tensor flags, Tensor like) =>
        flags.to(like.dtype).view([.. flags.shape, .. Enumerable.Repeat(1L, (int)(like.dim() - flags.dim()))]);
}
