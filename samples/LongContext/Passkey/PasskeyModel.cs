using InfiniAttention;
using LongContext.Models;

namespace LongContext.Passkey;

/// <summary>
/// The model that finds keys: a small <see cref="Decoder"/> over bytes with Infini-attention. It does not know about streams; read through a <see cref="SegmentStreamer"/> it has an
/// unbounded context.
/// </summary>
public sealed record PasskeyModel
{
    public long Vocabulary { get; init; } = 256;
    public long Width { get; init; } = 64;
    public long Heads { get; init; } = 2;
    public long SegmentLength { get; init; } = 128;
    public MemoryUpdate Update { get; init; }
    public MemoryVariant Memory { get; init; } = MemoryVariant.Paper;

    /// <summary>The initial gates (beta, one per head) of each layer; their number is the number of layers.</summary>
    public IReadOnlyList<IReadOnlyList<double>> InitialGates { get; init; } = [[-4, -4], [-2, 2]];

    /// <summary>A model with weights drawn at random.</summary>
    public Decoder Create()
    {
        var config = DecoderConfig.Small(Vocabulary, Width, InitialGates.Count, Heads, Width / Heads, SegmentLength);
        var attention = config.Attention(new ConversionOptions { SegmentLength = SegmentLength, Update = Update, Memory = Memory });
        var model = new Decoder(config, new(
            new TokenEmbedding(config, SegmentLength),
            layer => new InfiniAttentionModule(attention with { GateInitPerHead = InitialGates[layer] }),
            layer =>
            {
                InitialWeights.Draw(config.Layers, layer.Infini.named_parameters());
                InitialWeights.Draw(config.Layers, layer.Mlp);
            }));
        InitialWeights.DrawEnds(model);
        return model;
    }
}
