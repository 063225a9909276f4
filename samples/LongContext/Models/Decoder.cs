using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>
/// The decoder of all commands: an embedding, layers of attention and MLP with a norm before each, a norm, a head. The embedding and each layer's attention are given. Its
/// entries in <c>state_dict</c> are named as in Hugging Face's LLaMA. B batch, T tokens, D model width.
/// </summary>
public sealed class Decoder : nn.Module<Tensor, Tensor>
{
    private readonly DecoderBody model;
    private readonly Linear? lm_head;

    public Decoder(DecoderConfig config, DecoderParts parts, ScalarType type = ScalarType.Float32, Device? device = null) : base(nameof(Decoder))
    {
        Config = config;
        model = new(config, parts, type, device);
        lm_head = config.IsTied ? null : nn.Linear(config.Width, config.Vocabulary, hasBias: false, device, type);
        RegisterComponents();
    }

    /// <summary>A decoder of a configuration of unknown origin, with Infini-attention in place of its attention. Up to the first segment boundary its logits are those of the checkpoint.</summary>
    /// <exception cref="InputException">The layer does not have such an attention.</exception>
    public static Decoder Create(DecoderConfig config, ConversionOptions options, ScalarType type, Device? device)
    {
        try
        {
            var attention = config.Attention(options);
            return new(config, new(new TokenEmbedding(config, attention.SegmentLength, type, device), _ => new InfiniAttentionModule(attention, device, type)), type, device);
        }
        catch (ArgumentException error)
        {
            throw new InputException($"The model has an attention that the layer does not have: {error.Message}");
        }
    }

    public DecoderConfig Config { get; }

    /// <summary>The options of its Infini-attention.</summary>
    public InfiniAttentionOptions Attention => model.Layers[0].Infini.Options;

    /// <summary>All but the head: what a stream reads whose logits are needed for few of its tokens.</summary>
    public DecoderBody Body => model;

    /// <summary>The head's weight, (vocabulary, D).</summary>
    public Parameter Head => lm_head?.weight ?? model.Embedding.Weight;

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
        settings.Check(Config);
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

/// <summary>What a decoder is made of beside what its configuration says.</summary>
/// <param name="Embedding">The embedding, which is also the head of a tied decoder.</param>
/// <param name="Attention">The attention of a layer, counted from 0: (B, T, D) to the same shape.</param>
/// <param name="Draw">Draws the weights of a new layer; null if they are TorchSharp's, or will be read from a checkpoint.</param>
public sealed record DecoderParts(DecoderEmbedding Embedding, Func<int, nn.Module<Tensor, Tensor>> Attention, Action<DecoderLayer>? Draw = null);

/// <summary>Embedding, layers and the last norm: tokens (B, T) to (B, T, D).</summary>
public sealed class DecoderBody : nn.Module<Tensor, Tensor>
{
    private readonly DecoderEmbedding embed_tokens;
    private readonly ModuleList<DecoderLayer> layers;
    private readonly DecoderNorm norm;

    public DecoderBody(DecoderConfig config, DecoderParts parts, ScalarType type, Device? device) : base(nameof(DecoderBody))
    {
        embed_tokens = parts.Embedding;
        layers = nn.ModuleList(Enumerable.Range(0, config.Layers).Select(Layer).ToArray());
        norm = new(config, type, device);
        RegisterComponents();

        DecoderLayer Layer(int number)
        {
            var layer = new DecoderLayer(config, parts.Attention(number), type, device);
            parts.Draw?.Invoke(layer);
            return layer;
        }
    }

    public DecoderEmbedding Embedding => embed_tokens;

    public IReadOnlyList<DecoderLayer> Layers => [.. layers];

    public DecoderNorm Norm => norm;

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return norm.call(Through(embed_tokens.call(tokens))).MoveToOuterDisposeScope();
    }

    /// <summary>The outputs of all layers, (B, T, D) to the same shape.</summary>
    public Tensor Through(Tensor x)
    {
        foreach (var layer in layers)
        {
            x = layer.call(x);
        }

        return x;
    }

    /// <summary>The outputs of each layer, (B, T, D) each, in the caller's dispose scope.</summary>
    public IReadOnlyList<Tensor> OutputsOfLayers(Tensor tokens)
    {
        var outputs = new List<Tensor>();
        foreach (var layer in layers)
        {
            outputs.Add(layer.call(outputs.Count == 0 ? embed_tokens.call(tokens) : outputs[^1]));
        }

        return outputs;
    }
}
