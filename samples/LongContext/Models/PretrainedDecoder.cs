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

    /// <summary>
    /// Freezes all weights and gives the projections of each layer's attention adapters. Only these, the gates and what else is of the memory are trained from then on.
    /// </summary>
    /// <exception cref="InputException">The rank or alpha is out of range; nothing was changed.</exception>
    public void AddAdapters(LoraSettings settings)
    {
        var largest = Math.Min(Config.Width, Config.KeyValueHeads * Config.HeadWidth);
        if (settings.Rank < 1 || settings.Rank > largest)
        {
            throw new InputException($"The rank of the adapters is {settings.Rank}; it must be from 1 to {largest}, the width of the model's narrowest projection.");
        }

        if (!(settings.Alpha > 0 && double.IsFinite(settings.Alpha)))
        {
            throw new InputException($"The alpha of the adapters is {settings.Alpha}; it must be greater than 0.");
        }

        foreach (var parameter in parameters())
        {
            parameter.requires_grad_(false);
        }

        foreach (var layer in model.Layers)
        {
            layer.AddAdapters(settings);
        }
    }

    /// <summary>Adds the adapters to the weights, which then give the same outputs without them.</summary>
    public void MergeAdapters()
    {
        foreach (var projection in modules().OfType<LoraLinear>())
        {
            projection.Merge();
        }
    }

    /// <summary>Draws the weights of a new model: matrices from N(0, <see cref="DecoderConfig.InitializerRange"/>²), biases 0; norms stay 1.</summary>
    public void Draw()
    {
        using var noGrad = no_grad();
        foreach (var (name, parameter) in named_parameters().Where(entry => !entry.name.Contains(".memory_", StringComparison.Ordinal)))
        {
            if (parameter.dim() == 2)
            {
                nn.init.normal_(parameter, 0, Config.InitializerRange);
            }
            else if (name.EndsWith(".bias", StringComparison.Ordinal))
            {
                nn.init.zeros_(parameter);
            }
        }
    }
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
