using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The compressive memory as pure functions: feature map, retrieval (equation 7), and the scan over segments that both
/// update rules share (equations 8 and 9).
/// </summary>
/// <remarks>B batch, S segments, G key/value heads, R query heads of each, n tokens of each segment, K key width, V value width.</remarks>
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
        var negative = x.clamp(x.dtype == ScalarType.Float64 ? Scalars.FloorFloat64 : Scalars.FloorFloat32, Scalars.BelowZero);
        return x.clamp_min(Scalars.Zero).add_(negative.exp_()).MoveToOuterDisposeScope();
    }

    /// <summary>Equation 7 as numerator sigma(Q) M and denominator sigma(Q) z, from the memory before each segment.</summary>
    /// <param name="q">(B, S, G, R, n, K)</param>
    /// <param name="memory">M (B, S, G, K, V)</param>
    /// <param name="normalizer">z (B, S, G, K)</param>
    /// <returns>(B, S, G, R, n, V) and (B, S, G, R, n, 1)</returns>
    public static (Tensor Numerator, Tensor Denominator) Retrieve(Tensor q, Tensor memory, Tensor normalizer)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, heads, group, n, width) = Describe.SixDimensions(q);
        var queries = FeatureMap(As(q, memory.dtype).reshape(batch * segments * heads, group * n, width));
        var numerator = queries.bmm(memory.reshape(-1, width, memory.size(-1))).view(batch, segments, heads, group, n, -1);
        var denominator = Product(queries, normalizer.reshape(-1, 1, width)).view(batch, segments, heads, group, n, 1);
        return (numerator.MoveToOuterDisposeScope(), denominator.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// sigma z of each token, (P, n, 1), from sigma (P, n, K) and z (P, 1, K). A batched matrix-vector product is slower than
    /// product and sum, but its gradient is cheaper.
    /// </summary>
    public static Tensor Product(Tensor sigma, Tensor normalizer)
    {
        if (is_grad_enabled())
        {
            return sigma.bmm(normalizer.transpose(1, 2));
        }

        using var products = sigma * normalizer;
        return products.sum(-1, true);
    }

    /// <summary>M and z before each of S segments, and after the last.</summary>
    public static SegmentMemories Scan(InfiniAttentionOptions options, Tensor memory, Tensor normalizer, Tensor k, Tensor v, SegmentMarks marks)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, heads, n) = (k.size(0), k.size(1), k.size(2), k.size(3));
        var sigmaK = FeatureMap(As(k, memory.dtype).reshape(batch * segments * heads, n, -1)); // (B*S*G, N, K)
        var values = As(v, memory.dtype).reshape(batch * segments * heads, n, -1);             // (B*S*G, N, V)
        var written = marks.Writes(memory.dtype) is { } writes
            ? sigmaK * writes.unsqueeze(2).expand(batch, segments, heads, n).reshape(-1, n, 1)
            : sigmaK;
        var prefix = SegmentPrefix.Of(segments, marks.Keep(), memory);

        // z_s = z_{s-1} + sum_t sigma(K_t), under both rules.
        var (zBefore, zAfter) = prefix.Sum(written.sum(-2).view(batch, segments, heads, -1), normalizer);

        // B_s = sigma(K)^T V, (B, S, G, K, V), under both rules.
        var added = written.transpose(1, 2).bmm(values).view(batch, segments, heads, -1, v.size(4));

        // The update rule is chosen here.
        var (before, after) = options.Update switch
        {
            MemoryUpdate.Linear => LinearUpdate.Scan(memory, added, prefix),
            MemoryUpdate.Delta => DeltaUpdate.Scan(memory, added, sigmaK, written, DeltaUpdate.Normalizers(options.DeltaNormalizer, zBefore, zAfter), prefix),
            _ => throw new InvalidOperationException($"No update rule {options.Update}."),
        };

        return new(
            before.MoveToOuterDisposeScope(), zBefore.MoveToOuterDisposeScope(),
            after.MoveToOuterDisposeScope(), zAfter.MoveToOuterDisposeScope());
    }

    /// <summary>The tensor in the given type: itself where it is of that type.</summary>
    public static Tensor As(Tensor tensor, ScalarType type) => tensor.dtype == type ? tensor : tensor.to(type);
}

/// <summary>M (B, S, G, K, V) and z (B, S, G, K) before each segment of a block, and M (B, G, K, V), z (B, G, K) after the last.</summary>
internal readonly record struct SegmentMemories(Tensor Before, Tensor NormalizerBefore, Tensor After, Tensor NormalizerAfter);
