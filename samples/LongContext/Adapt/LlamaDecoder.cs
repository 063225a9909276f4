using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>The shape of a <see cref="LlamaDecoder"/>.</summary>
public sealed record LlamaOptions
{
    public long Vocabulary { get; init; } = RecallTask.Vocabulary;
    public long Width { get; init; } = 64;
    public int Layers { get; init; } = 2;
    public long Heads { get; init; } = 4;
    public long KeyValueHeads { get; init; } = 2;
    public long HeadWidth { get; init; } = 32;
    public long MlpWidth { get; init; } = 128;
    public double RotaryBase { get; init; } = 10000;
}

/// <summary>
/// A decoder like LLaMA: RMSNorm before attention and before a SwiGLU, rotary positions, fewer key/value heads than query
/// heads. Its attention is a plain causal one until a layer is converted.
/// B batch, T tokens, D model width.
/// </summary>
public sealed class LlamaDecoder : nn.Module<Tensor, Tensor>
{
    private readonly Embedding embed_tokens;
    private readonly ModuleList<LlamaLayer> layers;
    private readonly RootMeanSquareNorm norm;
    private readonly Linear lm_head;

    public LlamaDecoder(LlamaOptions options) : base(nameof(LlamaDecoder))
    {
        embed_tokens = nn.Embedding(options.Vocabulary, options.Width);
        layers = nn.ModuleList(Enumerable.Range(0, options.Layers).Select(_ => new LlamaLayer(options)).ToArray());
        norm = new RootMeanSquareNorm(options.Width);
        lm_head = nn.Linear(options.Width, options.Vocabulary, hasBias: false);
        nn.init.normal_(embed_tokens.weight!, 0, 0.5);
        nn.init.normal_(lm_head.weight!, 0, 0.02);
        RegisterComponents();
    }

    public IReadOnlyList<LlamaLayer> Layers => [.. layers];

    /// <summary>Logits of the next token after each of <paramref name="tokens"/>: (B, T) to (B, T, vocabulary).</summary>
    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = embed_tokens.call(tokens); // (B, T, D)
        foreach (var layer in layers)
        {
            x = layer.call(x);
        }

        return lm_head.call(norm.call(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>x + attention(norm(x)), then x + SwiGLU(norm(x)).</summary>
public sealed class LlamaLayer : nn.Module<Tensor, Tensor>
{
    private readonly LlamaOptions options;
    private readonly RootMeanSquareNorm input_layernorm, post_attention_layernorm;
    private readonly Linear gate_proj, up_proj, down_proj;
    private nn.Module<Tensor, Tensor> self_attn;

    public LlamaLayer(LlamaOptions options) : base(nameof(LlamaLayer))
    {
        this.options = options;
        input_layernorm = new RootMeanSquareNorm(options.Width);
        post_attention_layernorm = new RootMeanSquareNorm(options.Width);
        self_attn = new LlamaAttention(options);
        gate_proj = nn.Linear(options.Width, options.MlpWidth, hasBias: false);
        up_proj = nn.Linear(options.Width, options.MlpWidth, hasBias: false);
        down_proj = nn.Linear(options.MlpWidth, options.Width, hasBias: false);
        nn.init.normal_(down_proj.weight!, 0, Math.Pow(2 * options.Layers * options.MlpWidth, -0.5));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x.add(self_attn.call(input_layernorm.call(x)), Numbers.One);
        var y = post_attention_layernorm.call(x);
        x = x.add(down_proj.call(nn.functional.silu(gate_proj.call(y)) * up_proj.call(y)), Numbers.One);
        return x.MoveToOuterDisposeScope();
    }

    /// <summary>Replaces the plain attention by an Infini-attention layer with the same weights.</summary>
    public void Convert(long segmentLength, MemoryUpdate update, MemoryVariant memory, ReadOnlySpan<float> gates)
    {
        var converted = new InfiniAttentionModule(memory.Apply(new InfiniAttentionOptions
        {
            EmbedDim = options.Width,
            NumHeads = options.Heads,
            NumKeyValueHeads = options.KeyValueHeads,
            HeadDim = options.HeadWidth,
            SegmentLength = segmentLength,
            Update = update,
            Rotary = new RotaryOptions(options.RotaryBase),
        }));
        AttentionWeights.Load(converted, self_attn.state_dict());
        using (no_grad())
        using (var values = tensor(gates.ToArray()))
        {
            converted.Gate.copy_(values);
        }

        register_module(nameof(self_attn), null!); // TorchSharp's way to take a module out
        self_attn.Dispose();
        self_attn = converted;
        register_module(nameof(self_attn), converted);
    }
}

/// <summary>Plain causal attention to all earlier tokens: q_proj k_proj v_proj o_proj, rotary halves.</summary>
public sealed class LlamaAttention : nn.Module<Tensor, Tensor>
{
    private readonly LlamaOptions options;
    private readonly Linear q_proj, k_proj, v_proj, o_proj;

    public LlamaAttention(LlamaOptions options) : base(nameof(LlamaAttention))
    {
        this.options = options;
        var (queries, keys) = (options.Heads * options.HeadWidth, options.KeyValueHeads * options.HeadWidth);
        q_proj = nn.Linear(options.Width, queries, hasBias: false);
        k_proj = nn.Linear(options.Width, keys, hasBias: false);
        v_proj = nn.Linear(options.Width, keys, hasBias: false);
        o_proj = nn.Linear(queries, options.Width, hasBias: false);
        foreach (var projection in new[] { q_proj, k_proj, v_proj })
        {
            nn.init.normal_(projection.weight!, 0, Math.Pow(options.Width, -0.5));
        }

        nn.init.normal_(o_proj.weight!, 0, Math.Pow(2 * options.Layers * queries, -0.5));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (x.shape[0], x.shape[1]);
        var angles = outer(arange(tokens, float32, x.device), pow(options.RotaryBase, arange(0, options.HeadWidth, 2, float32, x.device) / -options.HeadWidth));
        var (cos, sin) = (cat([angles.cos(), angles.cos()], -1), cat([angles.sin(), angles.sin()], -1)); // (T, K)
        var q = Rotate(Heads(q_proj.call(x), options.Heads));
        var k = Repeat(Rotate(Heads(k_proj.call(x), options.KeyValueHeads)));
        var v = Repeat(Heads(v_proj.call(x), options.KeyValueHeads));
        var attended = nn.functional.scaled_dot_product_attention(q, k, v, null, 0, true); // (B, H, T, K)
        return o_proj.call(attended.transpose(1, 2).reshape(batch, tokens, -1)).MoveToOuterDisposeScope();

        Tensor Heads(Tensor projected, long heads) => projected.view(batch, tokens, heads, -1).transpose(1, 2);
        Tensor Repeat(Tensor heads) => heads.repeat_interleave(options.Heads / options.KeyValueHeads, 1);
        Tensor Rotate(Tensor heads)
        {
            var half = options.HeadWidth / 2;
            return (heads * cos).add(cat([-heads.narrow(-1, half, half), heads.narrow(-1, 0, half)], -1) * sin, Numbers.One);
        }
    }
}
