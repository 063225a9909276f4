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
        var negative = x.clamp(x.dtype == ScalarType.Float64 ? Scalars.FloorFloat64 : Scalars.FloorFloat32, Scalars.BelowZero);
        return x.clamp_min(Scalars.Zero).add_(negative.exp_()).MoveToOuterDisposeScope();
    }

    /// <summary>Equation 7 as numerator sigma(Q) M and denominator sigma(Q) z, from the memory before each segment.</summary>
    /// <param name="q">(S, B, G, R, n, K)</param>
    /// <param name="memory">M (S, B, G, K, V)</param>
    /// <param name="normalizer">z (S, B, G, K)</param>
    /// <returns>(S, B, G, R, n, V) and (S, B, G, R, n, 1)</returns>
    public static (Tensor Numerator, Tensor Denominator) Retrieve(Tensor q, Tensor memory, Tensor normalizer)
    {
        using var scope = NewDisposeScope();
        var (segments, batch, heads, group, n, width) = Describe.SixDimensions(q);
        var queries = FeatureMap(As(q, memory.dtype)).view(-1, group * n, width);
        var numerator = queries.bmm(memory.reshape(-1, width, memory.size(-1))).view(segments, batch, heads, group, n, -1);
        var denominator = Product(queries, normalizer.reshape(-1, 1, width)).view(segments, batch, heads, group, n, 1);
        return (numerator.MoveToOuterDisposeScope(), denominator.MoveToOuterDisposeScope());
    }

    /// <summary>sigma z of each token, (P, n, 1), from sigma (P, n, K) and z (P, 1, K): a batched matrix-vector product is slower.</summary>
    public static Tensor Product(Tensor sigma, Tensor normalizer)
    {
        using var products = sigma * normalizer;
        return products.sum(-1, true);
    }

    /// <summary>M and z before each of S segments, and after the last.</summary>
    public static SegmentMemories Scan(InfiniAttentionOptions options, Tensor memory, Tensor normalizer, Tensor k, Tensor v, SegmentMarks marks)
    {
        using var scope = NewDisposeScope();
        v = As(v, memory.dtype);
        var sigmaK = FeatureMap(As(k, memory.dtype));
        var writes = marks.Writes(memory.dtype);
        var written = writes is null ? sigmaK : sigmaK * writes.unsqueeze(2).unsqueeze(-1); // (S, B, G, n, K)
        var prefix = SegmentPrefix.Of(k.shape[0], marks.Keep(), memory);

        // z_s = z_{s-1} + sum_t sigma(K_t), under both rules.
        var (zBefore, zAfter) = prefix.Sum(written.sum(-2), normalizer);

        // The update rule is chosen here.
        var (before, after) = options.Update switch
        {
            MemoryUpdate.Linear => LinearUpdate.Scan(memory, written, v, prefix),
            MemoryUpdate.Delta => DeltaUpdate.Scan(memory, sigmaK, written, v, prefix, DeltaUpdate.Normalizers(options.DeltaNormalizer, zBefore, zAfter)),
            _ => throw new InvalidOperationException($"No update rule {options.Update}."),
        };

        return new(
            before.MoveToOuterDisposeScope(), zBefore.MoveToOuterDisposeScope(),
            after.MoveToOuterDisposeScope(), zAfter.MoveToOuterDisposeScope());
    }

    /// <summary>The tensor in the given type: itself where it is of that type.</summary>
    public static Tensor As(Tensor tensor, ScalarType type) => tensor.dtype == type ? tensor : tensor.to(type);
}

/// <summary>M (S, B, G, K, V) and z (S, B, G, K) before each segment of a block, and M (B, G, K, V), z (B, G, K) after the last.</summary>
internal readonly record struct SegmentMemories(Tensor Before, Tensor NormalizerBefore, Tensor After, Tensor NormalizerAfter);
