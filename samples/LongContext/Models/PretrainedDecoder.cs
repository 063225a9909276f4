using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>
/// A decoder of any supported family with Infini-attention in place of its attention. Up to the first segment boundary its logits are those of the checkpoint. Its entries
/// in <c>state_dict</c> are named as in Hugging Face's LLaMA. B batch, T tokens, D model width.
/// </summary>
public sealed class PretrainedDecoder : nn.Module<Tensor, Tensor>
{
    private readonly DecoderBody model;
    private readonly Parameter? lm_head;

    public PretrainedDecoder(DecoderConfig config, ConversionOptions options, ScalarType type = ScalarType.Float32, Device? device = null) : base(nameof(PretrainedDecoder))
    {
        Config = config;
        Attention = config.Attention(options);
        model = new(config, Attention, type, device);
        lm_head = config.IsTied ? null : new Parameter(zeros([config.Vocabulary, config.Width], type, device));
        RegisterComponents();
    }

    /// <summary>A decoder of a configuration of unknown origin.</summary>
    /// <exception cref="InputException">The layer does not have such an attention.</exception>
    public static PretrainedDecoder Create(DecoderConfig config, ConversionOptions options, ScalarType type, Device? device)
    {
        try
        {
            return new(config, options, type, device);
        }
        catch (ArgumentException error)
        {
            throw new InputException($"The model has an attention that the layer does not have: {error.Message}");
        }
    }

    public DecoderConfig Config { get; }

    /// <summary>The options of its attention.</summary>
    public InfiniAttentionOptions Attention { get; }

    /// <summary>All but the head: what a stream reads whose logits are needed for few of its tokens.</summary>
    public DecoderBody Body => model;

    /// <summary>The head's weight, (vocabulary, D).</summary>
    public Parameter Head => lm_head ?? model.Embedding;

    /// <summary>Logits of the next token after each of <paramref name="tokens"/>: (B, T) to (B, T, vocabulary).</summary>
    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return Logits(model.call(tokens)).MoveToOuterDisposeScope();
    }

    /// <summary>(…, D) to (…, vocabulary)</summary>
    public Tensor Logits(Tensor hidden) => nn.functional.linear(hidden, Head);
}

/// <summary>Embedding, layers and the last norm: tokens (B, T) to (B, T, D).</summary>
public sealed class DecoderBody : nn.Module<Tensor, Tensor>
{
    private readonly long segment;
    private readonly Parameter embed_tokens;
    private readonly Parameter? embed_positions;
    private readonly ModuleList<DecoderLayer> layers;
    private readonly DecoderNorm norm;

    public DecoderBody(DecoderConfig config, InfiniAttentionOptions attention, ScalarType type, Device? device) : base(nameof(DecoderBody))
    {
        segment = attention.SegmentLength;
        embed_tokens = new Parameter(zeros([config.Vocabulary, config.Width], type, device));
        embed_positions = config.Rotary is null ? new Parameter(zeros([config.Length, config.Width], type, device)) : null;
        layers = nn.ModuleList(Enumerable.Range(0, config.Layers).Select(_ => new DecoderLayer(config, attention, type, device)).ToArray());
        norm = new(config, type, device);
        RegisterComponents();
    }

    /// <summary>(vocabulary, D)</summary>
    public Parameter Embedding => embed_tokens;

    /// <summary>(length, D); null for rotary positions.</summary>
    public Parameter? Positions => embed_positions;

    public IReadOnlyList<DecoderLayer> Layers => [.. layers];

    public DecoderNorm Norm => norm;

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = Embedded(tokens);
        foreach (var layer in layers)
        {
            x = layer.call(x);
        }

        return norm.call(x).MoveToOuterDisposeScope();
    }

    /// <summary>The outputs of each layer, (B, T, D) each, in the caller's dispose scope.</summary>
    public IReadOnlyList<Tensor> OutputsOfLayers(Tensor tokens)
    {
        var outputs = new List<Tensor>();
        foreach (var layer in layers)
        {
            outputs.Add(layer.call(outputs.Count == 0 ? Embedded(tokens) : outputs[^1]));
        }

        return outputs;
    }

    private Tensor Embedded(Tensor tokens)
    {
        var x = Rows(embed_tokens, tokens);
        return embed_positions is null ? x : x.add(Rows(embed_positions, PlacesOf(tokens)), Numbers.One);
    }

    /// <summary>The learned positions restart at each segment, as rotary ones do: a stream has more tokens than the model has positions.</summary>
    private Tensor PlacesOf(Tensor tokens)
    {
        var first = SegmentStreamer.Current?.Position ?? 0;
        return tensor([.. Enumerable.Range(0, (int)tokens.size(1)).Select(t => (first + t) % segment)], int64, tokens.device).unsqueeze(0); // (1, T)
    }

    /// <summary>Rows of a table (n, D) by their numbers (B, T): (B, T, D).</summary>
    private static Tensor Rows(Tensor table, Tensor numbers) => table.index_select(0, numbers.reshape(-1)).view(numbers.size(0), numbers.size(1), -1);
}
