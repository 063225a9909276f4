using InfiniAttention.Tests.Snippets;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>A plain block and what its conversion needs: the options, and the prefix and rotary pairing of its weights.</summary>
internal sealed record LayoutCase(string Name, AttentionLayout Layout, Func<PlainBlock> CreateBlock, InfiniAttentionOptions Options, string Prefix = "", RotaryPairing? Pairing = null)
{
    private static readonly InfiniAttentionOptions Shape = new() { EmbedDim = 48, NumHeads = 4, SegmentLength = 16, GateInit = 0.5 };

    public static IReadOnlyList<LayoutCase> All { get; } =
    [
        new("nn.MultiheadAttention", AttentionLayout.TorchMultihead, () => new MultiheadBlock(48, 4), Shape with { Bias = true }, "self_attn"),
        new("Meta LLaMA, interleaved", AttentionLayout.MetaLlama, () => new MetaLlamaBlock(48, 4, 2, 500),
            Shape with { NumKeyValueHeads = 2, Rotary = new(500, RotaryPairing.Interleaved) }, Pairing: RotaryPairing.Interleaved),
        new("Meta LLaMA, to halves", AttentionLayout.MetaLlama, () => new MetaLlamaBlock(48, 4, 1, 10000),
            Shape with { NumKeyValueHeads = 1, Rotary = new() }, Pairing: RotaryPairing.Interleaved),
        new("Hugging Face LLaMA", AttentionLayout.HuggingFaceLlama, () => new LlamaBlock(48, 4, 2, 12, 10000, false),
            Shape with { NumKeyValueHeads = 2, Rotary = new() }),
        new("Hugging Face LLaMA, biases, wide heads, to interleaved", AttentionLayout.HuggingFaceLlama, () => new LlamaBlock(48, 4, 2, 20, 700, true),
            Shape with { NumKeyValueHeads = 2, HeadDim = 20, Bias = true, Rotary = new(700, RotaryPairing.Interleaved) }, Pairing: RotaryPairing.Halves),
        new("Qwen 2", AttentionLayout.HuggingFaceLlama, () => new QwenBlock(48, 4, 2, 12, hasBias: true, hasNorm: false),
            Shape with { NumKeyValueHeads = 2, Bias = true, OutputBias = false, Rotary = new(1000000) }),
        new("Qwen 3", AttentionLayout.HuggingFaceLlama, () => new QwenBlock(48, 4, 2, 20, hasBias: false, hasNorm: true),
            Shape with { NumKeyValueHeads = 2, HeadDim = 20, QueryKeyNorm = true, Rotary = new(1000000) }),
        new("Qwen 3, to interleaved", AttentionLayout.HuggingFaceLlama, () => new QwenBlock(48, 4, 2, 20, hasBias: false, hasNorm: true),
            Shape with { NumKeyValueHeads = 2, HeadDim = 20, QueryKeyNorm = true, Rotary = new(1000000, RotaryPairing.Interleaved) }, Pairing: RotaryPairing.Halves),
        new("Phi-3", AttentionLayout.Phi3, () => new Phi3Block(48, 4, 2), Shape with { NumKeyValueHeads = 2, Rotary = new() }),
        new("Phi-2", AttentionLayout.Phi2, () => new Phi2Block(48, 4, 4), Shape with { Bias = true, Rotary = new(Width: 4) }),
        new("GPT-2", AttentionLayout.Gpt2, () => new Gpt2Block(48, 4), Shape with { Bias = true }, "attn"),
        new("Phi-2, to interleaved", AttentionLayout.Phi2, () => new Phi2Block(48, 4, 8),
            Shape with { Bias = true, Rotary = new(Pairing: RotaryPairing.Interleaved, Width: 8) }, Pairing: RotaryPairing.Halves),
    ];

    public static TheoryData<string> Names => [.. All.Select(layout => layout.Name)];

    public static LayoutCase Of(string name) => All.Single(layout => layout.Name == name);

    /// <summary>A block with random weights and biases, and the layer made from its state_dict.</summary>
    public (PlainBlock Block, InfiniAttentionModule Layer) Convert(ScalarType type)
    {
        var block = (PlainBlock)CreateBlock().to(type);
        using var noGrad = no_grad();
        foreach (var (name, parameter) in block.named_parameters())
        {
            nn.init.normal_(parameter, 0, name.EndsWith("bias", StringComparison.Ordinal) ? 0.3 : 0.15);
        }

        var layer = new InfiniAttentionModule(Options, dtype: type);
        Assert.Equal(Layout, AttentionWeights.Load(layer, block.state_dict(), Prefix, Pairing));
        return (block, layer);
    }

    public override string ToString() => Name;
}
