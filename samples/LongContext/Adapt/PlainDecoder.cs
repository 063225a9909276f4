using InfiniAttention;
using LongContext.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>The decoder like LLaMA that <c>adapt</c> trains: RMS norms, SwiGLU, rotary positions, and a plain causal attention in each layer until that is converted.</summary>
public static class PlainDecoder
{
    public static DecoderConfig Config { get; } = new()
    {
        Family = "llama",
        Vocabulary = RecallTask.Vocabulary,
        Width = 64,
        Layers = 2,
        Heads = 4,
        KeyValueHeads = 2,
        HeadWidth = 32,
        MlpWidth = 128,
        Length = new AdaptSettings().Window,
        NormEpsilon = 1e-6,
        Rotary = new(),
    };

    /// <summary>A decoder with weights drawn at random.</summary>
    public static Decoder Create()
    {
        var decoder = new Decoder(Config, new(
            new TokenEmbedding(Config, Config.Length),
            _ => new CausalAttention(Config),
            layer => InitialWeights.Draw(layer.Mlp.Down.weight!, 2 * Config.Layers)));
        InitialWeights.DrawEnds(decoder);
        return decoder;
    }

    /// <summary>Replaces a layer's plain attention by an Infini-attention layer with the same weights.</summary>
    public static void Convert(Decoder decoder, int layer, AdaptSettings settings)
    {
        var conversion = new ConversionOptions { SegmentLength = settings.Window, Update = settings.Rule, Memory = settings.Memory };
        var converted = new InfiniAttentionModule(Config.Attention(conversion) with { GateInitPerHead = settings.InitialGates(layer) });
        AttentionWeights.Load(converted, decoder.Body.Layers[layer].Attention.state_dict());
        decoder.Body.Layers[layer].Replace(converted);
    }
}

/// <summary>Plain causal attention to all earlier tokens: q_proj k_proj v_proj o_proj, rotary halves. B batch, T tokens, H heads, K width of a head.</summary>
public sealed class CausalAttention : nn.Module<Tensor, Tensor>
{
    private readonly DecoderConfig config;
    private readonly Linear q_proj, k_proj, v_proj, o_proj;

    public CausalAttention(DecoderConfig config) : base(nameof(CausalAttention))
    {
        this.config = config;
        var (queries, keys) = (config.Heads * config.HeadWidth, config.KeyValueHeads * config.HeadWidth);
        q_proj = nn.Linear(config.Width, queries, hasBias: false);
        k_proj = nn.Linear(config.Width, keys, hasBias: false);
        v_proj = nn.Linear(config.Width, keys, hasBias: false);
        o_proj = nn.Linear(queries, config.Width, hasBias: false);
        RegisterComponents();
        InitialWeights.Draw(config.Layers, named_parameters());
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (x.shape[0], x.shape[1]);
        var angles = outer(arange(tokens, float32, x.device), pow(config.Rotary!.Theta, arange(0, config.HeadWidth, 2, float32, x.device) / -config.HeadWidth));
        var (cos, sin) = (cat([angles.cos(), angles.cos()], -1), cat([angles.sin(), angles.sin()], -1)); // (T, K)
        var q = Rotate(Heads(q_proj.call(x), config.Heads));
        var k = Repeat(Rotate(Heads(k_proj.call(x), config.KeyValueHeads)));
        var v = Repeat(Heads(v_proj.call(x), config.KeyValueHeads));
        var attended = nn.functional.scaled_dot_product_attention(q, k, v, null, 0, true); // (B, H, T, K)
        return o_proj.call(attended.transpose(1, 2).reshape(batch, tokens, -1)).MoveToOuterDisposeScope();

        Tensor Heads(Tensor projected, long heads) => projected.view(batch, tokens, heads, -1).transpose(1, 2);
        Tensor Repeat(Tensor heads) => heads.repeat_interleave(config.Heads / config.KeyValueHeads, 1);
        Tensor Rotate(Tensor heads)
        {
            var half = config.HeadWidth / 2;
            return (heads * cos).add(cat([-heads.narrow(-1, half, half), heads.narrow(-1, 0, half)], -1) * sin, Numbers.One);
        }
    }
}
