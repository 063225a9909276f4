using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

/// <summary>Each block of <see cref="PlainBlock"/>'s file after its conversion: the same outputs up to the first boundary.</summary>
public class ConversionSnippets
{
    private const long D = 48, Heads = 4, KeyHeads = 2, N = 16;

    private static void AreTheSame(PlainBlock block, Func<Tensor, Tensor> converted)
    {
        var x = randn(2, N, D);
        var (expected, actual) = (block.call(x, null), converted(x));
        Assert.True(expected.allclose(actual, 1e-4, 1e-5), $"{(expected - actual).abs().max().item<float>()}");
    }

    [Fact]
    public void One_declaration()
    {
        using var scope = NewDisposeScope();
        var before = new MultiheadBlock(D, Heads);
        var path = Path.GetTempFileName();
        try
        {
            before.save(path);

            #region one declaration, loaded
            var block = new InfiniMultiheadBlock(D, Heads);
            AttentionWeights.LoadModel(block, path); // what the model before saved: all of it, and nothing else
            #endregion

            AreTheSame(before, x => block.call(x, null));

            Assert.Contains("self_attn.attention.gate", block.state_dict().Keys);
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void From_a_module()
    {
        using var scope = NewDisposeScope();
        var block = new MultiheadBlock(D, Heads);
        var before = block.modules().OfType<MultiheadAttention>().Single();

        #region nn.MultiheadAttention after
        var attention = InfiniAttentionModule.From(before, new InfiniAttentionOptions { EmbedDim = 48, NumHeads = 4, SegmentLength = 16 });
        #endregion

        AreTheSame(block, attention.call);
    }

    [Fact]
    public void Gpt2()
    {
        using var scope = NewDisposeScope();
        var block = new Gpt2Block(D, Heads);
        var stateDict = block.state_dict();

        #region GPT-2 after
        var attention = new InfiniAttentionModule(new InfiniAttentionOptions { EmbedDim = 48, NumHeads = 4, SegmentLength = 16, Bias = true });
        AttentionWeights.Load(attention, stateDict, "attn");
        #endregion

        AreTheSame(block, attention.call);
    }

    [Fact]
    public void Llama()
    {
        using var scope = NewDisposeScope();
        var block = new LlamaBlock(D, Heads, KeyHeads, D / Heads, 10000);
        var weights = Placed(block, "model.layers.0.self_attn");

        #region LLaMA and Mistral after
        var attention = new InfiniAttentionModule(new InfiniAttentionOptions
        {
            EmbedDim = 48,
            NumHeads = 4,
            NumKeyValueHeads = 2,
            SegmentLength = 16,
            Rotary = new RotaryOptions(Theta: 10000),
        });
        AttentionWeights.Load(attention, weights, "model.layers.0.self_attn");
        #endregion

        AreTheSame(block, attention.call);

        #region back to the old layout
        var old = AttentionWeights.Save(attention, AttentionLayout.HuggingFaceLlama, "model.layers.0.self_attn");
        #endregion

        Assert.Equal(weights.Keys.Order(), old.Keys.Order());
    }

    [Fact]
    public void Qwen()
    {
        using var scope = NewDisposeScope();
        var block = new QwenBlock(D, Heads, KeyHeads, D / Heads, hasBias: true, hasNorm: true);
        var weights = Placed(block, "model.layers.0.self_attn");

        #region Qwen after
        var attention = new InfiniAttentionModule(new InfiniAttentionOptions
        {
            EmbedDim = 48,
            NumHeads = 4,
            NumKeyValueHeads = 2,
            SegmentLength = 16,
            Bias = true,           // Qwen 2
            OutputBias = false,
            QueryKeyNorm = true,   // Qwen 3
            Rotary = new RotaryOptions(Theta: 1000000),
        });
        AttentionWeights.Load(attention, weights, "model.layers.0.self_attn");
        #endregion

        AreTheSame(block, attention.call);
    }

    [Fact]
    public void Scaled_frequencies()
    {
        #region scaled frequencies
        var llama31 = new RotaryOptions(500000) { Scaling = new Llama3RotaryScaling(Factor: 8, OriginalLength: 8192) };
        var stretched = new RotaryOptions { Scaling = new LinearRotaryScaling(Factor: 4) };
        var yarn = new RotaryOptions(1000000) { Scaling = new YarnRotaryScaling(Factor: 4, OriginalLength: 32768) };
        #endregion

        Assert.All(new[] { llama31, stretched, yarn }, rotary =>
            new InfiniAttentionModule(new InfiniAttentionOptions { EmbedDim = 48, NumHeads = 4, SegmentLength = 16, Rotary = rotary }).Dispose());
    }

    [Fact]
    public void Meta_llama()
    {
        using var scope = NewDisposeScope();
        var block = new MetaLlamaBlock(D, Heads, KeyHeads, 500000);
        var weights = Placed(block, "layers.0.attention");

        #region Meta's LLaMA after
        var options = new InfiniAttentionOptions
        {
            EmbedDim = 48,
            NumHeads = 4,
            NumKeyValueHeads = 2,
            SegmentLength = 16,
            Rotary = new RotaryOptions(Theta: 500000, Pairing: RotaryPairing.Interleaved),
        };
        var attention = new InfiniAttentionModule(options);
        AttentionWeights.Load(attention, weights, "layers.0.attention");
        #endregion

        #region Meta's LLaMA to halves
        var halves = new InfiniAttentionModule(options with { Rotary = new RotaryOptions(Theta: 500000) });
        AttentionWeights.Load(halves, weights, "layers.0.attention", pairing: RotaryPairing.Interleaved);
        #endregion

        AreTheSame(block, attention.call);
        AreTheSame(block, halves.call);
    }

    [Fact]
    public void Phi3()
    {
        using var scope = NewDisposeScope();
        var block = new Phi3Block(D, Heads, KeyHeads);
        var weights = Placed(block, "model.layers.0.self_attn");

        #region Phi-3 after
        var attention = new InfiniAttentionModule(new InfiniAttentionOptions
        {
            EmbedDim = 48,
            NumHeads = 4,
            NumKeyValueHeads = 2,
            SegmentLength = 16,
            Rotary = new RotaryOptions(),
        });
        AttentionWeights.Load(attention, weights, "model.layers.0.self_attn");
        #endregion

        AreTheSame(block, attention.call);
    }

    [Fact]
    public void Phi2()
    {
        using var scope = NewDisposeScope();
        var block = new Phi2Block(D, Heads, 4);
        var weights = Placed(block, "model.layers.0.self_attn");

        #region Phi-2 after
        var attention = new InfiniAttentionModule(new InfiniAttentionOptions
        {
            EmbedDim = 48,
            NumHeads = 4,
            SegmentLength = 16,
            Bias = true,
            Rotary = new RotaryOptions(Width: 4),    // Phi-2 turns 32 of a head's 80 elements, here 4 of 12
        });
        AttentionWeights.Load(attention, weights, "model.layers.0.self_attn");
        #endregion

        AreTheSame(block, attention.call);
    }

    private static Dictionary<string, Tensor> Placed(PlainBlock block, string prefix) =>
        block.state_dict().ToDictionary(entry => $"{prefix}.{entry.Key}", entry => entry.Value);
}

#region one declaration
internal sealed class InfiniMultiheadBlock : PlainBlock
{
    private readonly InfiniMultiheadAttention self_attn;

    public InfiniMultiheadBlock(long width, long heads) : base(nameof(InfiniMultiheadBlock))
    {
        self_attn = new InfiniMultiheadAttention(width, heads, segment_length: 16);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var sequence = x.transpose(0, 1);                                   // (T, B, D)
        var mask = CausalMask(x.shape[1], x.dtype);
        return self_attn.call(sequence, sequence, sequence, padding, false, mask).Item1.transpose(0, 1);
    }
}
#endregion
