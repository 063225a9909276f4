using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The compressive memory as pure functions: feature map, retrieval (equation 7), and the scan over segments that both
/// update rules share (equations 8 and 9).
/// </summary>
/// <remarks>S segments, B batch, G key/value heads, R query heads of each, n tokens of each segment, K key width, V value width.</remarks>
internal static class CompressiveMemory
{
    /// <summary>
    /// sigma(x) = ELU(x) + 1, computed as max(x, 0) + exp(min(x, 0)), which keeps its relative precision where ELU + 1 cancels.
    /// </summary>
    /// <remarks>
    /// It is kept so far above 0 that a denominator sigma(q) z is 0 only for a memory to which nothing was written, and that
    /// the square of its reciprocal, which gradients need, is finite. The upper limit of the exponent, just below 0, lets the
    /// gradient at exactly 0 come from one of the two terms alone.
    /// </remarks>
    public static Tensor FeatureMap(Tensor x)
    {
        using var scope = NewDisposeScope();
        var floor = x.dtype == ScalarType.Float64 ? -80.0 : -16.0;
        return x.clamp_min(0).add_(x.clamp(floor, -1e-30).exp_()).MoveToOuterDisposeScope();
    }

    /// <summary>Equation 7 as numerator sigma(Q) M and denominator sigma(Q) z, from the memory before each segment.</summary>
    /// <param name="sigmaQ">(S, B, G, R, n, K)</param>
    /// <param name="memory">M (S, B, G, K, V)</param>
    /// <param name="normalizer">z (S, B, G, K)</param>
    /// <returns>(S, B, G, R, n, V) and (S, B, G, R, n, 1)</returns>
    public static (Tensor Numerator, Tensor Denominator) Retrieve(Tensor sigmaQ, Tensor memory, Tensor normalizer)
    {
        using var scope = NewDisposeScope();
        var (segments, batch, heads, group, n, width) = (sigmaQ.shape[0], sigmaQ.shape[1], sigmaQ.shape[2], sigmaQ.shape[3], sigmaQ.shape[4], sigmaQ.shape[5]);
        var queries = sigmaQ.view(-1, group * n, width);
        var numerator = queries.bmm(memory.reshape(-1, width, memory.shape[^1])).view(segments, batch, heads, group, n, -1);
        var denominator = queries.bmm(normalizer.reshape(-1, width, 1)).view(segments, batch, heads, group, n, 1);
        return (numerator.MoveToOuterDisposeScope(), denominator.MoveToOuterDisposeScope());
    }

    /// <summary>M and z before each of S segments, and after the last.</summary>
    public static SegmentMemories Scan(InfiniAttentionOptions options, Tensor memory, Tensor normalizer, Tensor sigmaK, Tensor v, SegmentMarks marks)
    {
        using var scope = NewDisposeScope();
        var writes = marks.Writes(memory.dtype);
        var written = writes is null ? sigmaK : sigmaK * writes.unsqueeze(2).unsqueeze(-1); // (S, B, G, n, K)
        var keep = marks.Keep();

        // z_s = z_{s-1} + sum_t sigma(K_t), under both rules.
        var (zBefore, zAfter) = ExclusiveSum(written.sum(-2), normalizer, keep);

        // The update rule is chosen here.
        var (before, after) = options.Update switch
        {
            MemoryUpdate.Linear => LinearUpdate.Scan(memory, written, v, keep),
            MemoryUpdate.Delta => DeltaUpdate.Scan(memory, sigmaK, written, v, keep, DeltaUpdate.Normalizers(options.DeltaNormalizer, zBefore, zAfter)),
            _ => throw new InvalidOperationException($"No update rule {options.Update}."),
        };

        return new(
            before.MoveToOuterDisposeScope(), zBefore.MoveToOuterDisposeScope(),
            after.MoveToOuterDisposeScope(), zAfter.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// The sums of what was written before each segment and after the last. A segment that does not keep what is before it
    /// (a document starts in it) begins the sum anew.
    /// </summary>
    /// <param name="added">(S, B, …): what each segment adds.</param>
    /// <param name="initial">(B, …): what was there before the first.</param>
    /// <param name="keep">(S, B) bool; null for all true.</param>
    /// <returns>(S, B, …) and (B, …)</returns>
    public static (Tensor Before, Tensor After) ExclusiveSum(Tensor added, Tensor initial, Tensor? keep)
    {
        using var scope = NewDisposeScope();
        var (segments, batch) = (added.shape[0], added.shape[1]);
        Tensor before;
        if (segments == 1)
        {
            before = initial.unsqueeze(0);
        }
        else if (keep is null)
        {
            // One product with a triangle of ones: a cumulative sum that runs at the speed of a matrix product.
            using var triangle = ones(segments, segments, added.dtype, added.device).tril(-1);
            before = initial.reshape(1, -1).addmm(triangle, added.reshape(segments, -1)).view(added.shape);
        }
        else
        {
            // Segment s still holds what segment j < s wrote if as many documents had started up to j as before s.
            var started = (~keep).to(int64).cumsum(0).transpose(0, 1);                     // (B, S), segment included
            var startedBefore = cat([zeros(batch, 1, int64, added.device), started.narrow(1, 0, segments - 1)], 1);
            var holds = (startedBefore.unsqueeze(-1) == started.unsqueeze(-2)).tril(-1);   // (B, S, S)
            var holdsInitial = startedBefore == 0;                                         // (B, S)
            before = holds.to(added.dtype).bmm(added.reshape(segments, batch, -1).transpose(0, 1))
                .add_(holdsInitial.to(added.dtype).unsqueeze(-1) * initial.reshape(batch, 1, -1))
                .transpose(0, 1).reshape(added.shape);
        }

        var last = before[segments - 1];
        var after = (keep is null ? last : last * Broadcast(keep[segments - 1], last)) + added[segments - 1];
        return (before.alias().MoveToOuterDisposeScope(), after.MoveToOuterDisposeScope());
    }

    /// <summary>A flag of each row, (B), in the type and rank of <paramref name="like"/>, (B, …).</summary>
    public static Tensor Broadcast(Tensor flags, Tensor like) =>
        flags.to(like.dtype).view([.. flags.shape, .. Enumerable.Repeat(1L, (int)(like.dim() - flags.dim()))]);
}

/// <summary>M (S, B, G, K, V) and z (S, B, G, K) before each segment of a block, and M (B, G, K, V), z (B, G, K) after the last.</summary>
internal readonly record struct SegmentMemories(Tensor Before, Tensor NormalizerBefore, Tensor After, Tensor NormalizerAfter);
