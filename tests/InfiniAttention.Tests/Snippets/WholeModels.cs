using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

#region nn.TransformerEncoder after
/// <summary>nn.TransformerEncoder with nn.TransformerEncoderLayers and a causal mask, as one model: (T, B, D) to (T, B, D). The fields are named as in its state_dict.</summary>
internal sealed class InfiniEncoder : nn.Module<Tensor, Tensor>
{
    private readonly ModuleList<InfiniEncoderLayer> layers;

    public InfiniEncoder(long depth, long width, long heads, long inner) : base(nameof(InfiniEncoder))
    {
        layers = new([.. Enumerable.Range(0, (int)depth).Select(_ => new InfiniEncoderLayer(width, heads, inner))]);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => layers.Aggregate(x, (y, layer) => layer.call(y));
}

internal sealed class InfiniEncoderLayer : nn.Module<Tensor, Tensor>
{
    private readonly InfiniMultiheadAttention self_attn;
    private readonly Linear linear1, linear2;
    private readonly LayerNorm norm1, norm2;

    public InfiniEncoderLayer(long width, long heads, long inner) : base(nameof(InfiniEncoderLayer))
    {
        self_attn = new(width, heads, segment_length: 16, causalWithoutMask: true);
        (linear1, linear2) = (nn.Linear(width, inner), nn.Linear(inner, width));
        (norm1, norm2) = (nn.LayerNorm(width), nn.LayerNorm(width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        x = norm1.call(x + self_attn.call(x, x, x, need_weights: false).Item1);
        return norm2.call(x + linear2.call(linear1.call(x).relu()));
    }
}
#endregion

#region a cache before
/// <summary>The keys and values of all tokens so far, of one layer: (B, G, T, K).</summary>
internal sealed class KeyValueCache
{
    public Tensor? Keys { get; private set; }

    public Tensor? Values { get; private set; }

    public long Length => Keys?.shape[2] ?? 0;

    public void Append(Tensor keys, Tensor values) =>
        (Keys, Values) = Keys is null || Values is null ? (keys, values) : (cat([Keys, keys], 2), cat([Values, values], 2));
}

internal sealed class CachedLlamaAttention : nn.Module<Tensor, KeyValueCache, Tensor>
{
    private readonly long heads, keyHeads;
    private readonly Linear q_proj, k_proj, v_proj, o_proj;

    public CachedLlamaAttention(long width, long heads, long keyHeads) : base(nameof(CachedLlamaAttention))
    {
        (this.heads, this.keyHeads) = (heads, keyHeads);
        q_proj = nn.Linear(width, width, hasBias: false);
        k_proj = nn.Linear(width, keyHeads * width / heads, hasBias: false);
        v_proj = nn.Linear(width, keyHeads * width / heads, hasBias: false);
        o_proj = nn.Linear(width, width, hasBias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, KeyValueCache cache)
    {
        var (first, tokens) = (cache.Length, x.shape[1]);
        var q = PlainBlock.RotateHalves(PlainBlock.Heads(q_proj.call(x), heads), 10000, first);
        cache.Append(PlainBlock.RotateHalves(PlainBlock.Heads(k_proj.call(x), keyHeads), 10000, first), PlainBlock.Heads(v_proj.call(x), keyHeads));
        var (k, v) = (cache.Keys!.repeat_interleave(heads / keyHeads, 1), cache.Values!.repeat_interleave(heads / keyHeads, 1));
        var mask = full([tokens, cache.Length], double.NegativeInfinity, x.dtype).triu(first + 1);
        var weights = ((q.matmul(k.transpose(2, 3)) / Math.Sqrt(q.shape[^1])) + mask).softmax(-1);
        return o_proj.call(weights.matmul(v).transpose(1, 2).reshape(x.shape));
    }
}

internal sealed class CachedLlamaBlock : nn.Module<Tensor, KeyValueCache, Tensor>
{
    private readonly LayerNorm input_layernorm;
    private readonly CachedLlamaAttention self_attn;

    public CachedLlamaBlock(long width, long heads, long keyHeads) : base(nameof(CachedLlamaBlock))
    {
        (input_layernorm, self_attn) = (nn.LayerNorm(width), new(width, heads, keyHeads));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, KeyValueCache cache) => x + self_attn.call(input_layernorm.call(x), cache);
}
#endregion

#region a cache after
internal sealed class StreamedLlamaBlock : nn.Module<Tensor, Tensor>
{
    private readonly LayerNorm input_layernorm;
    private readonly InfiniAttentionModule self_attn;

    public StreamedLlamaBlock(long width, long heads, long keyHeads) : base(nameof(StreamedLlamaBlock))
    {
        input_layernorm = nn.LayerNorm(width);
        self_attn = new(new() { EmbedDim = width, NumHeads = heads, NumKeyValueHeads = keyHeads, SegmentLength = 16, Rotary = new RotaryOptions() });
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => x + self_attn.call(input_layernorm.call(x));
}
#endregion

#region nanoGPT before
internal sealed class NanoGpt : nn.Module<Tensor, Tensor>
{
    private readonly Embedding wte, wpe;
    private readonly NanoGptAttention attn;
    private readonly Linear lm_head;

    public NanoGpt(long vocabulary, long positions, long width, long heads) : base(nameof(NanoGpt))
    {
        (wte, wpe) = (nn.Embedding(vocabulary, width), nn.Embedding(positions, width));
        (attn, lm_head) = (new(width, heads), nn.Linear(width, vocabulary, hasBias: false));
        RegisterComponents();
    }

    public override Tensor forward(Tensor tokens)
    {
        var places = arange(tokens.shape[1], int64);
        return lm_head.call(attn.call(wte.call(tokens) + wpe.call(places)));
    }
}

internal sealed class NanoGptAttention : nn.Module<Tensor, Tensor>
{
    private readonly long heads;
    private readonly Linear c_attn, c_proj;

    public NanoGptAttention(long width, long heads) : base(nameof(NanoGptAttention))
    {
        (this.heads, c_attn, c_proj) = (heads, nn.Linear(width, 3 * width), nn.Linear(width, width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        var qkv = c_attn.call(x).chunk(3, -1);
        return c_proj.call(PlainBlock.Attend(PlainBlock.Heads(qkv[0], heads), PlainBlock.Heads(qkv[1], heads), PlainBlock.Heads(qkv[2], heads), null));
    }
}
#endregion

#region nanoGPT after
internal sealed class InfiniNanoGpt : nn.Module<Tensor, Tensor>
{
    private readonly Embedding wte, wpe;
    private readonly InfiniAttentionModule attn;
    private readonly Linear lm_head;

    public InfiniNanoGpt(long vocabulary, long positions, long width, long heads) : base(nameof(InfiniNanoGpt))
    {
        (wte, wpe) = (nn.Embedding(vocabulary, width), nn.Embedding(positions, width));
        attn = new(new() { EmbedDim = width, NumHeads = heads, SegmentLength = 16, Bias = true });
        lm_head = nn.Linear(width, vocabulary, hasBias: false);
        RegisterComponents();
    }

    /// <summary>Loads what a NanoGpt's state_dict holds.</summary>
    public void LoadNanoGpt(Dictionary<string, Tensor> weights)
    {
        // Fused and not transposed: Phi-3's layout, under other names.
        string Renamed(string name) => name.Replace("attn.c_attn", "attn.qkv_proj").Replace("attn.c_proj", "attn.o_proj");
        AttentionWeights.Load(attn, weights.ToDictionary(entry => Renamed(entry.Key), entry => entry.Value), "attn", skip: ["bias"]);
        load_state_dict(weights.Where(entry => !entry.Key.StartsWith("attn.", StringComparison.Ordinal)).ToDictionary(), strict: false);
    }

    public override Tensor forward(Tensor tokens)
    {
        var first = SegmentStreamer.Current?.Position ?? 0;                     // in a stream positions go on from call to call
        var places = arange(first, first + tokens.shape[1], int64);
        return lm_head.call(attn.call(wte.call(tokens) + wpe.call(places)));
    }
}
#endregion

#region GenAI before
internal sealed record DecoderInput(Tensor HiddenStates, Tensor? AttentionMask = null, KeyValueCache? PastKeyValue = null);

internal sealed record DecoderOutput(Tensor HiddenStates, KeyValueCache? PastKeyValue = null);

internal sealed class DecoderLayer : nn.Module<DecoderInput, DecoderOutput>
{
    private readonly LayerNorm input_layernorm;
    private readonly LlamaBlock self_attn;                                      // or Phi3Block

    public DecoderLayer(long width, long heads, long keyHeads) : base(nameof(DecoderLayer))
    {
        (input_layernorm, self_attn) = (nn.LayerNorm(width), new(width, heads, keyHeads, width / heads, 10000));
        RegisterComponents();
    }

    public override DecoderOutput forward(DecoderInput input)
    {
        var x = input.HiddenStates;
        return new(x + self_attn.call(input_layernorm.call(x), input.AttentionMask), input.PastKeyValue);
    }
}
#endregion

#region GenAI after
internal sealed class InfiniDecoderLayer : nn.Module<DecoderInput, DecoderOutput>
{
    private readonly LayerNorm input_layernorm;
    private readonly InfiniAttentionModule self_attn;

    public InfiniDecoderLayer(long width, long heads, long keyHeads) : base(nameof(InfiniDecoderLayer))
    {
        input_layernorm = nn.LayerNorm(width);
        self_attn = new(new() { EmbedDim = width, NumHeads = heads, NumKeyValueHeads = keyHeads, SegmentLength = 16, Rotary = new RotaryOptions() });
        RegisterComponents();
    }

    /// <summary>The cache stays empty: what crosses calls is in the stream. Padding goes to the stream as well, as <see cref="TokenInfo"/>.</summary>
    public override DecoderOutput forward(DecoderInput input)
    {
        var x = input.HiddenStates;
        return new(x + self_attn.call(input_layernorm.call(x)), input.PastKeyValue);
    }

    /// <summary>Loads a layer's part of the model's weights: LLaMA's names are the same, Phi-3's fused ones are recognised too.</summary>
    public void LoadLayer(Dictionary<string, Tensor> weights, string prefix)
    {
        AttentionWeights.Load(self_attn, weights, $"{prefix}.self_attn");
        var rest = weights.Where(entry => entry.Key.StartsWith($"{prefix}.", StringComparison.Ordinal) && !entry.Key.StartsWith($"{prefix}.self_attn.", StringComparison.Ordinal));
        load_state_dict(rest.ToDictionary(entry => entry.Key[(prefix.Length + 1)..], entry => entry.Value), strict: false);
    }
}
#endregion
