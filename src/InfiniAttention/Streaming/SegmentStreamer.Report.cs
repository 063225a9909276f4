using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

// What a stream holds, as numbers to look at.
public sealed partial class SegmentStreamer
{
    /// <summary>
    /// Is told of every segment as it is written to a layer's memory, on the thread of the call; null for nobody, which costs
    /// nothing. A call that then fails takes its segments back; <see cref="Backpropagate"/> tells nothing.
    /// </summary>
    public Action<SegmentReport>? SegmentWritten { get; set; }

    /// <summary>Gates, memories and bytes of every layer, as they are now.</summary>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public IReadOnlyList<LayerReport> Report()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        return [.. states.Layers.Select((entry, i) => ReportOf(entry.Name, entry.Layer, states.Current[i]))];
    }

    /// <summary>Runs what passes over segments more than once, telling nobody of them.</summary>
    private T Untold<T>(Func<T> action)
    {
        var told = SegmentWritten;
        SegmentWritten = null;
        try
        {
            return action();
        }
        finally
        {
            SegmentWritten = told;
        }
    }

    private void Tell(InfiniAttentionModule layer, SegmentTokens tokens, CompressiveMemory memories, long position)
    {
        if (SegmentWritten is not { } told)
        {
            return;
        }

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var name = states.Layers.First(entry => ReferenceEquals(entry.Layer, layer)).Name;
        var segments = tokens.Keys.size(1);
        var memory = After(memories.M, memories.After!.Value.M);               // (B, S, G, K, V)
        var normalizer = After(memories.Z, memories.After!.Value.Z);
        var (norms, smallest, errors) = (Norms(memory), Smallest(normalizer), RetrievalErrors(tokens, memory, normalizer));
        for (var s = 0; s < segments; s++)
        {
            told(new(name, (position / layer.Options.SegmentLength) + s, Numbers(norms[s]), Numbers(smallest[s]), Numbers(errors[s])));
        }

        Tensor After(Tensor before, Tensor last) => cat([before.narrow(1, 1, segments - 1), last.unsqueeze(1)], 1);
    }

    private static LayerReport ReportOf(string name, InfiniAttentionModule layer, MemoryState? state)
    {
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
            state.Bytes, state.Batch * state.Position * tokenBytes);
    }

    /// <summary>(B, S, G, K, V) -> (S, G)</summary>
    private static Tensor Norms(Tensor memory) => memory.square().sum([-2, -1]).sqrt().mean([0]);

    /// <summary>(B, S, G, K) -> (S, G)</summary>
    private static Tensor Smallest(Tensor normalizer) => normalizer.amin([0, 3]);

    /// <summary>|sigma(K) M / (sigma(K) z) - V| / |V| over the rows and the tokens that were written, (S, G).</summary>
    private static Tensor RetrievalErrors(SegmentTokens tokens, Tensor memory, Tensor normalizer)
    {
        var keys = FeatureMap.Apply(tokens.Keys.transpose(2, 3).to(memory.dtype));  // (B, S, G, N, K)
        var values = tokens.Values.transpose(2, 3).to(memory.dtype);                            // (B, S, G, N, V)
        var denominator = keys.matmul(normalizer.unsqueeze(-1));                // (B, S, G, N, 1)
        var retrieved = keys.matmul(memory) / denominator.masked_fill(denominator == Scalars.Zero, Scalars.One);
        var written = tokens.Marks.Writes(memory.dtype) is { } writes
            ? (writes > Scalars.Zero).to(memory.dtype).unsqueeze(2).unsqueeze(-1)          // (B, S, 1, N, 1)
            : ones_like(denominator);
        return (Squares(retrieved - values) / Squares(values)).sqrt();

        Tensor Squares(Tensor x) => (x.square() * written).sum([0, 3, 4]);
    }

    private static double[] Numbers(Tensor vector) => vector.detach().to(ScalarType.Float64).cpu().data<double>().ToArray();
}
