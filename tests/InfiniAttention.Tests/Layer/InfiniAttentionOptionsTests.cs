using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The layer's constructor refuses invalid options.</summary>
public class InfiniAttentionOptionsTests
{
    private static readonly InfiniAttentionOptions Valid = new() { EmbedDim = 8, NumHeads = 4, SegmentLength = 4 };

    public static TheoryData<string, InfiniAttentionOptions, string[]> Impossible => new()
    {
        { "EmbedDim", Valid with { EmbedDim = 0 }, ["0"] },
        { "NumHeads", Valid with { NumHeads = 0 }, ["0"] },
        { "NumHeads", Valid with { NumHeads = -2 }, ["-2"] },
        { "SegmentLength", Valid with { SegmentLength = 0 }, ["0"] },
        { "SegmentLength", Valid with { SegmentLength = -1 }, ["-1"] },
        { "NumKeyValueHeads", Valid with { NumKeyValueHeads = 0 }, ["0"] },
        { "NumKeyValueHeads", Valid with { NumKeyValueHeads = 3 }, ["3", "4"] },
        { "NumKeyValueHeads", Valid with { NumKeyValueHeads = 8 }, ["8", "4"] },
        { "NumHeads", Valid with { EmbedDim = 10 }, ["10", "4"] },
        { "HeadDim", Valid with { HeadDim = 0 }, ["0"] },
        { "HeadDim", Valid with { HeadDim = 3, Rotary = new RotaryOptions() }, ["3", "even"] },
        { "ValueHeadDim", Valid with { ValueHeadDim = 0 }, ["0"] },
        { "Theta", Valid with { Rotary = new RotaryOptions(0) }, ["0"] },
        { "Theta", Valid with { Rotary = new RotaryOptions(double.NaN) }, ["NaN"] },
        { "Pairing", Valid with { Rotary = new RotaryOptions(100, (RotaryPairing)7) }, ["7", "Halves", "Interleaved"] },
        { "Factor", Scaled(new LinearRotaryScaling(0)), ["0", "greater than 0"] },
        { "HighFrequencyFactor", Scaled(new Llama3RotaryScaling(8, 8192, 4, 4)), ["4", "LowFrequencyFactor"] },
        { "OriginalLength", Scaled(new Llama3RotaryScaling(8, 0)), ["0"] },
        { "BetaFast", Scaled(new YarnRotaryScaling(4, 64) { BetaFast = 0.5 }), ["0.5", "BetaSlow (1)"] },
        { "AttentionFactor", Scaled(new YarnRotaryScaling(4, 64) { AttentionFactor = -1 }), ["-1"] },
        { "ShortFactors", Scaled(new LongRotaryScaling([1, 2], [1], 64, 4)), ["[1, 2]", "1 rotated pairs"] },
        { "LongFactors", Scaled(new LongRotaryScaling([1], [double.NaN], 64, 4)), ["[NaN]"] },
        { "PerPair", Scaled(new GivenRotaryFrequencies([])), ["[]"] },
        { "QueryKeyNormEpsilon", Valid with { QueryKeyNormEpsilon = 0 }, ["0"] },
        { "Dropout", Valid with { Dropout = -0.1 }, ["-0.1"] },
        { "Dropout", Valid with { Dropout = 1.5 }, ["1.5"] },
        { "Dropout", Valid with { Dropout = double.NaN }, ["NaN"] },
        { "GateInit", Valid with { GateInit = double.PositiveInfinity }, ["Infinity"] },
        { "GateInit", Valid with { GateInit = double.NaN }, ["NaN"] },
        { "Update", Valid with { Update = (MemoryUpdate)9 }, ["9", "Linear", "Delta"] },
        { "DeltaNormalizer", Valid with { DeltaNormalizer = (DeltaNormalizer)9 }, ["9", "BeforeSegment"] },
        { "BlockTokens", Valid with { BlockTokens = 0 }, ["0"] },
        { "EmptyMemory", Valid with { EmptyMemory = (EmptyMemory)9 }, ["9", "LocalOnly", "Gated"] },
    };

    private static InfiniAttentionOptions Scaled(RotaryScaling scaling) => Valid with { Rotary = new RotaryOptions { Scaling = scaling } };

    [Theory]
    [MemberData(nameof(Impossible))]
    public void Invalid_options_are_refused_by_name_with_what_was_given_and_what_is_allowed(
        string option, InfiniAttentionOptions options, string[] words)
    {
        long left = LiveTensors.LeftBy(() =>
        {
            var error = Assert.ThrowsAny<ArgumentException>(() => new InfiniAttentionModule(options));
            Assert.Contains(option, error.Message, StringComparison.Ordinal);
            Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
        });
        Assert.Equal(0, left);
    }

    [Fact]
    public void A_layer_of_integers_is_refused()
    {
        var error = Assert.ThrowsAny<ArgumentException>(() => new InfiniAttentionModule(Valid, dtype: ScalarType.Int64));
        Assert.Equal("dtype", error.ParamName);
        Assert.Contains("Int64", error.Message, StringComparison.Ordinal);
        Assert.Contains("Float32", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Null_options_are_refused() =>
        Assert.Equal("options", Assert.Throws<ArgumentNullException>(() => new InfiniAttentionModule(null!)).ParamName);

    [Fact]
    public void Sizes_that_are_not_given_follow_from_the_others()
    {
        using var layer = new InfiniAttentionModule(Valid with { HeadDim = 6, NumKeyValueHeads = 2 });
        var shapes = layer.named_parameters().ToDictionary(p => p.name, p => p.parameter.shape);
        Assert.Equal([24, 8], shapes["q_proj.weight"]);
        Assert.Equal([12, 8], shapes["k_proj.weight"]);
        Assert.Equal([12, 8], shapes["v_proj.weight"]);
        Assert.Equal([8, 24], shapes["o_proj.weight"]);
        Assert.Equal([4], shapes["gate"]);
    }
}
