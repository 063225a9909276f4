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
    /// <summary>Lower limits of the feature map's exponent.</summary>
    public const float FloorFloat32 = -16;

    /// <inheritdoc cref="FloorFloat32"/>
    public const double FloorFloat64 = -80;

    /// <summary>
    /// sigma(x) = ELU(x) + 1, computed as max(x, 0) + exp(min(x, 0)), which keeps its relative precision where ELU + 1 cancels.
    /// </summary>
    /// <remarks>
    /// It is kept so far above 0 that a denominator sigma(q) z is 0 only for a memory to which nothing was written, and that
    /// the square of its reciprocal, which gradients need, is finite unless write weights are tiny. Its gradient is that of ELU,
    /// one pass over memory: with gradients on, ELU is what the graph records, and its result is then brought to the precise value.
    /// </remarks>
    public static Tensor FeatureMap(Tensor x)
    {
        using var scope = NewDisposeScope();
        var recorded = is_grad_enabled() && x.requires_grad ? x.elu(Scalars.One, Scalars.One, Scalars.One) : null;
        using var unrecorded = no_grad();
        var exponential = x.clamp(x.dtype == ScalarType.Float64 ? Scalars.FloorFloat64 : Scalars.FloorFloat32, Scalars.Zero).exp_();
        var positive = recorded?.clamp_min_(Scalars.Zero) ?? x.clamp_min(Scalars.Zero);
        return positive.add_(exponential).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// sigma of each head. It is computed while the heads of a token lie side by side, as their projection left them: in any
    /// other order the gradient is several times slower.
    /// </summary>
    /// <param name="heads">(B, S, G, R, n, K)</param>
    /// <param name="type">The memory's type.</param>
    /// <returns>(B*S*G, R*n, K)</returns>
    private static Tensor FeatureMapOfHeads(Tensor heads, ScalarType type)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, keyHeads, group, n, width) = Describe.SixDimensions(heads);
        var tokens = As(heads, type).permute(0, 1, 4, 2, 3, 5).reshape(batch * segments * n, keyHeads * group * width);
        return FeatureMap(tokens).view(batch, segments, n, keyHeads, group, width).permute(0, 1, 3, 4, 2, 5)
            .reshape(batch * segments * keyHeads, group * n, width).MoveToOuterDisposeScope();
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
        var queries = FeatureMapOfHeads(q, memory.dtype);
        var numerator = queries.bmm(memory.reshape(-1, width, memory.size(-1))).view(batch, segments, heads, group, n, -1);
        var denominator = Product(queries, normalizer.reshape(-1, 1, width), mayOverwrite: true).view(batch, segments, heads, group, n, 1);
        return (numerator.MoveToOuterDisposeScope(), denominator.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// sigma z of each token, (P, n, 1), from sigma (P, n, K) and z (P, 1, K). A batched matrix-vector product is slower than
    /// product and sum, but its gradient is cheaper.
    /// </summary>
    /// <param name="sigma">(P, n, K)</param>
    /// <param name="normalizer">z, (P, 1, K)</param>
    /// <param name="mayOverwrite">Whether sigma is not needed any more.</param>
    public static Tensor Product(Tensor sigma, Tensor normalizer, bool mayOverwrite = false)
    {
        if (is_grad_enabled())
        {
            return sigma.bmm(normalizer.transpose(1, 2));
        }

        using var products = mayOverwrite ? sigma.mul_(normalizer) : sigma * normalizer;
        return products.sum(-1, true);
    }

    /// <summary>M and z before each of S segments, and after the last.</summary>
    public static SegmentMemories Scan(InfiniAttentionOptions options, Tensor memory, Tensor normalizer, Tensor k, Tensor v, SegmentMarks marks)
    {
        using var scope = NewDisposeScope();
        var (batch, segments, heads, n) = (k.size(0), k.size(1), k.size(2), k.size(3));
        var sigmaK = FeatureMapOfHeads(k.unsqueeze(3), memory.dtype);                          // (B*S*G, N, K)
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
