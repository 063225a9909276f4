using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Computes the reports of a stream's layers.</summary>
internal static class StreamReports
{
    /// <summary>A layer as it is now; state is null before its first token.</summary>
    public static LayerReport Of(string name, InfiniAttentionModule layer, MemoryState? state)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var options = layer.Options;
        var gates = Numbers(layer.Gate);
        if (state is null)
        {
            var none = new double[options.KeyValueHeads];
            return new(name, 0, gates, none, none, 0, 0);
        }

        var tokenBytes = options.KeyValueHeads * (options.KeyWidth + options.ValueWidth) * layer.Gate.ElementSize;
        return new(
            name, state.Position, gates,
            Numbers(Norms(state.Memory.unsqueeze(1))[0]), Numbers(Smallest(state.Normalizer.unsqueeze(1))[0]),
            state.Bytes, (long)Int128.Min(long.MaxValue, (Int128)state.Position * state.Batch * tokenBytes));
    }

    /// <summary>Reports the segments that a layer has just written, the first of which contains <paramref name="position"/>.</summary>
    /// <param name="name">The layer's name in the model.</param>
    /// <param name="norm">The norms on its memory's path; null for none.</param>
    /// <param name="tokens">The segments.</param>
    /// <param name="written">The memory before each, and after the last.</param>
    /// <param name="position">The position of their first token.</param>
    public static IReadOnlyList<SegmentReport> OfSegments(string name, NormScales? norm, SegmentTokens tokens, CompressiveMemory written, long position)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var segments = tokens.Keys.size(1);
        var memory = AfterEach(written.M, written.After!.Value.M);        // (B, S, G, K, V)
        var normalizer = AfterEach(written.Z, written.After.Value.Z);     // (B, S, G, K)
        var (norms, smallest, errors) = (Norms(memory), Smallest(normalizer), RetrievalErrors(tokens, norm, memory, normalizer));
        var first = position / tokens.Length;
        return [.. Enumerable.Range(0, (int)segments).Select(s => new SegmentReport(name, first + s, Numbers(norms[s]), Numbers(smallest[s]), Numbers(errors[s])))];

        Tensor AfterEach(Tensor before, Tensor last) => cat([before.narrow(1, 1, segments - 1), last.unsqueeze(1)], 1);
    }

    /// <summary>(B, S, G, K, V) -> (S, G)</summary>
    private static Tensor Norms(Tensor memory) => memory.square().sum([-2, -1]).sqrt().mean([0]);

    /// <summary>(B, S, G, K) -> (S, G)</summary>
    private static Tensor Smallest(Tensor normalizer) => normalizer.amin([0, 3]);

    /// <summary>|sigma(K) M / (sigma(K) z) - V| / |V| over the rows and the tokens that were written, (S, G).</summary>
    private static Tensor RetrievalErrors(SegmentTokens tokens, NormScales? norm, Tensor memory, Tensor normalizer)
    {
        var k = tokens.Keys.to(memory.dtype).unsqueeze(4);
        var keys = FeatureMap.Apply(norm?.Keys(k) ?? k).squeeze(4).transpose(2, 3); // (B, S, G, N, K)
        var values = tokens.Values.to(memory.dtype).transpose(2, 3);                // (B, S, G, N, V)
        var denominator = keys.matmul(normalizer.unsqueeze(-1));                    // (B, S, G, N, 1)
        var retrieved = keys.matmul(memory).div(denominator.masked_fill(denominator.eq(Scalars.Zero), Scalars.One));
        var unwritten = tokens.Marks.Writes(memory.dtype)?.eq(Scalars.Zero).unsqueeze(2).unsqueeze(-1); // (B, S, 1, N, 1)
        return Squares(retrieved.sub(values)).div(Squares(values)).sqrt();

        // Tokens that are not written may hold NaN, which 0 would not clear.
        Tensor Squares(Tensor x) => (unwritten is null ? x.mul(x) : x.mul(x).masked_fill(unwritten, Scalars.Zero)).sum([0, 3, 4]);
    }

    private static double[] Numbers(Tensor vector) => HostVector.Elements<double>(vector.detach().to(ScalarType.Float64).cpu().contiguous()).ToArray();
}
