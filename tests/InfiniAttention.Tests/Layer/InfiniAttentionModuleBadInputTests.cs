using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Invalid input is refused before anything is computed or changed.</summary>
public class InfiniAttentionModuleBadInputTests
{
    private static readonly LayerCase Case = new() { Batch = 2, Length = 6 };

    public static TheoryData<long[], ScalarType, string[]> Inputs => new()
    {
        { [8], ScalarType.Float64, ["(8)", "(B, T, D)", "D = 8"] },
        { [6, 8], ScalarType.Float64, ["(6, 8)", "(B, T, D)", "D = 8"] },
        { [1, 2, 6, 8], ScalarType.Float64, ["(1, 2, 6, 8)", "(B, T, D)", "D = 8"] },
        { [2, 6, 7], ScalarType.Float64, ["(2, 6, 7)", "(B, T, D)", "D = 8"] },
        { [2, 0, 8], ScalarType.Float64, ["(2, 0, 8)", "token"] },
        { [0, 6, 8], ScalarType.Float64, ["(0, 6, 8)", "row"] },
        { [2, 6, 8], ScalarType.Float32, ["Float32", "Float64"] },
        { [2, 6, 8], ScalarType.Int64, ["Int64", "Float64"] },
    };

    public static TheoryData<string, long[], ScalarType, string[]> Masks => new()
    {
        { "KeyPaddingMask", [2, 5], ScalarType.Bool, ["(2, 5)", "(2, 6)"] },
        { "KeyPaddingMask", [2, 6, 1], ScalarType.Bool, ["(2, 6, 1)", "(2, 6)"] },
        { "KeyPaddingMask", [6], ScalarType.Bool, ["(6)", "(2, 6)"] },
        { "KeyPaddingMask", [2, 6], ScalarType.Float64, ["Float64", "Bool"] },
        { "DocumentStarts", [1, 6], ScalarType.Bool, ["(1, 6)", "(2, 6)"] },
        { "DocumentStarts", [2, 6], ScalarType.Int64, ["Int64", "Bool"] },
        { "WriteWeights", [2, 7], ScalarType.Float64, ["(2, 7)", "(2, 6)"] },
        { "WriteWeights", [2, 6], ScalarType.Bool, ["Bool", "float"] },
        { "WriteWeights", [2, 6], ScalarType.Int64, ["Int64", "float"] },
    };

    [Theory]
    [MemberData(nameof(Inputs))]
    public void An_input_of_another_shape_or_type_is_refused(long[] shape, ScalarType type, string[] words)
    {
        using var scope = NewDisposeScope();
        Tensor x = zeros(shape, dtype: type);
        InfiniAttentionModule layer = Case.Layer();
        MemoryState state = layer.ForwardFrom(null, Case.Input()).State;
        Refuses(layer, state, x, null, "x", words);
        BadInput.IsRefused(() => layer.forward(x), "x", words);
    }

    [Theory]
    [MemberData(nameof(Masks))]
    public void Token_info_of_another_shape_or_type_is_refused(string which, long[] shape, ScalarType type, string[] words)
    {
        using var scope = NewDisposeScope();
        Tensor bad = ones(shape, dtype: type);
        TokenInfo info = which switch
        {
            "KeyPaddingMask" => new TokenInfo { KeyPaddingMask = bad },
            "DocumentStarts" => new TokenInfo { DocumentStarts = bad },
            _ => new TokenInfo { WriteWeights = bad },
        };
        InfiniAttentionModule layer = Case.Layer();
        MemoryState state = layer.ForwardFrom(null, Case.Input()).State;
        Refuses(layer, state, Case.Input(), info, which, words);
    }

    [Theory]
    [InlineData(-0.5)]
    [InlineData(double.NaN)]
    public void A_write_weight_that_is_negative_or_not_a_number_is_refused(double weight)
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        MemoryState state = layer.ForwardFrom(null, Case.Input()).State;
        Tensor writes = ones(2, 6, dtype: ScalarType.Float64);
        writes.select(0, 1).narrow(0, 3, 1).fill_(weight);
        Refuses(layer, state, Case.Input(), new TokenInfo { WriteWeights = writes }, "WriteWeights", ["at least 0"]);
    }

    [Fact]
    public void A_write_weight_that_is_infinite_in_the_memorys_type_is_refused()
    {
        using var scope = NewDisposeScope();
        using var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        var info = new TokenInfo { WriteWeights = full([1, 3], 1e39, ScalarType.Float64) };
        Assert.Contains("finite", Assert.Throws<ArgumentException>("WriteWeights", () => layer.forward(randn(1, 3, 8), info)).Message);
    }

    [Fact]
    public void A_state_of_another_batch_is_refused()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        MemoryState state = layer.ForwardFrom(null, Case.Input()).State;
        Refuses(layer, state, (Case with { Batch = 3 }).Input(), null, "state", ["(2, 2, 4, 4)", "(3, 2, 4, 4)"]);
    }

    [Theory]
    [InlineData("heads")]
    [InlineData("width of keys")]
    [InlineData("width of values")]
    [InlineData("segment")]
    [InlineData("type")]
    public void A_state_of_another_layer_is_refused(string what)
    {
        using var scope = NewDisposeScope();
        LayerCase other = what switch
        {
            "heads" => Case with { KeyValueHeads = 1 },
            "width of keys" => Case with { HeadDim = 2 },
            "width of values" => Case with { ValueDim = 5 },
            "segment" => Case with { Segment = 3 },
            _ => Case,
        };
        InfiniAttentionModule layer = Case.Layer(), otherLayer = other.Layer();
        ScalarType type = ScalarType.Float64;
        if (what == "type")
        {
            otherLayer.to(type = ScalarType.Float32);
        }

        MemoryState foreign = otherLayer.ForwardFrom(null, other.Input().to_type(type)).State;
        Refuses(layer, foreign, Case.Input(), null, "state", []);
    }

    [Fact]
    public void An_input_on_another_device_is_refused()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        MemoryState state = layer.ForwardFrom(null, Case.Input()).State;
        Tensor elsewhere = zeros([2, 6, 8], dtype: ScalarType.Float64, device: META);
        Refuses(layer, state, elsewhere, null, "x", ["meta", "cpu"]);
        Tensor mask = zeros([2, 6], dtype: ScalarType.Bool, device: META);
        Refuses(layer, state, Case.Input(), new TokenInfo { KeyPaddingMask = mask }, "KeyPaddingMask", ["meta", "cpu"]);
    }

    [Fact]
    public void Null_arguments_are_refused()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Assert.Throws<ArgumentNullException>(() => layer.forward(null!));
        Assert.Throws<ArgumentNullException>(() => layer.ForwardFrom(null, null!));
    }

    /// <summary>The call must be refused without leaving a tensor, drawing a random number or changing the state.</summary>
    private static void Refuses(
        InfiniAttentionModule layer, MemoryState state, Tensor x, TokenInfo? info, string parameter, string[] words)
    {
        double[] memory = Difference.Numbers(state.Memory);
        long position = state.Position;
        manual_seed(3);
        double[] random = Difference.Numbers(rand(4));
        manual_seed(3);
        Assert.Equal(0, LiveTensors.LeftBy(() =>
            BadInput.IsRefused(() => layer.ForwardFrom(state, x, info), parameter, words)));
        Assert.Equal(random, Difference.Numbers(rand(4)));
        Assert.Equal(memory, Difference.Numbers(state.Memory));
        Assert.Equal(position, state.Position);
    }
}
