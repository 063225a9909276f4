using InfiniAttention.Tests.Snippets;
using TorchSharp;
using static InfiniAttention.Tests.Conversion.ConversionTests;
using static InfiniAttention.Tests.Conversion.ReplacedAttention;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>The drop-in replacement for nn.MultiheadAttention.</summary>
public class InfiniMultiheadAttentionTests
{
    [Fact]
    public void It_can_be_created_from_options()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(new InfiniAttentionOptions { EmbedDim = Width, NumHeads = Heads, SegmentLength = Segment, Update = MemoryUpdate.Delta }, causalWithoutMask: true);
        Assert.Equal(3, layer.state_dict().Count);
        var x = randn(2 * Segment, Batch, Width);
        Assert.Equal(x.shape, layer.call(x, x, x, need_weights: false).Item1.shape);
        var narrow = new InfiniAttentionOptions { EmbedDim = Width, NumHeads = Heads, SegmentLength = Segment, NumKeyValueHeads = 1 };
        Assert.Contains($"EmbedDim ({Width})", Assert.Throws<ArgumentException>(() => new InfiniMultiheadAttention(narrow)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Its_gate_is_a_parameter_and_everything_learns()
    {
        using var scope = NewDisposeScope();
        var model = After();
        var gate = Assert.Single(InfiniAttentionModule.GateParameters(model));
        Assert.Contains(model.parameters(), parameter => parameter.Handle == gate.Handle);
        Assert.Equal(Before().parameters().Count() + 1, model.parameters().Count());

        model.call(randn(Batch, 3 * Segment, Width)).square().sum().backward();

        Assert.All(model.named_parameters(), entry => Assert.True(entry.parameter.grad is { } gradient && gradient.abs().max().item<float>() > 0, entry.name));
    }

    [Fact]
    public void Forward_is_that_of_the_module_it_replaces()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var old = nn.MultiheadAttention(Width, Heads);
        var layer = new InfiniMultiheadAttention(Width, Heads, Segment);
        AttentionWeights.LoadModel(layer, old.state_dict());
        var padding = zeros(Batch, Segment, @bool);
        padding[1, TensorIndex.Slice(6, null)] = true;
        var x = randn(Segment, Batch, Width);
        var causal = PlainBlock.CausalMask(Segment, x.dtype);
        foreach (var mask in new[] { causal, full([Segment, Segment], -1e9).triu(1) })
        {
            foreach (var ignored in new[] { null, padding, padding.to(ScalarType.Byte) })
            {
                var expected = old.call(x, x, x, ignored?.to(ScalarType.Bool), attn_mask: mask);
                var actual = layer.call(x, x, x, ignored, attn_mask: mask);

                Assert.True(Difference(expected.Item1, actual.Item1) < 1e-5);
                Assert.True(Difference(expected.Item2, actual.Item2) < 1e-6);
            }
        }

        // A bool mask and a mask per row and head give the same result.
        var plain = layer.call(x, x, x, attn_mask: causal).Item1;
        Assert.Equal(0, Difference(plain, layer.call(x, x, x, attn_mask: causal == double.NegativeInfinity).Item1));
        Assert.Equal(0, Difference(plain, layer.call(x, x, x, attn_mask: causal.expand(Batch * Heads, Segment, Segment)).Item1));
    }

    [Fact]
    public void Without_need_weights_the_weights_are_an_invalid_tensor_as_before()
    {
        using var scope = NewDisposeScope();
        var x = randn(1, Batch, Width);
        var before = nn.MultiheadAttention(Width, Heads).call(x, x, x, need_weights: false);
        var after = new InfiniMultiheadAttention(Width, Heads, Segment).call(x, x, x, need_weights: false);
        Assert.True(before.Item2.IsInvalid);
        Assert.True(after.Item2.IsInvalid);
    }

    [Fact]
    public void Padding_before_a_sequence_gives_finite_outputs_and_gradients()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(Width, Heads, Segment);
        var padding = zeros(Batch, Segment, @bool);
        padding[0, TensorIndex.Slice(0, 3)] = true;
        var x = randn(Segment, Batch, Width, requires_grad: true);
        var (output, weights) = layer.call(x, x, x, padding, true, PlainBlock.CausalMask(Segment, x.dtype));
        (output.sum() + weights.square().sum()).backward();
        Assert.True(isfinite(output).all().item<bool>());
        Assert.True(isfinite(x.grad!).all().item<bool>());
        Assert.Equal(0, weights[0, TensorIndex.Slice(0, 3)].abs().max().item<float>());
        Assert.True((weights[0, TensorIndex.Slice(3, null)].sum(-1) - 1).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void Streamed_pieces_equal_one_call()
    {
        using var scope = NewDisposeScope();
        var model = After(0.5).to(ScalarType.Float64);
        var x = randn(Batch, 5 * Segment + 3, Width, ScalarType.Float64);
        var expected = model.call(x);
        using var stream = new SegmentStreamer(model);
        var outputs = new List<Tensor>();
        foreach (var length in new long[] { 1, 6, 5, Segment, 1, (2 * Segment) + 3, x.shape[1] - 24 - (2 * Segment) })
        {
            outputs.Add(stream.Forward(x.narrow(1, stream.Position, length)));
        }

        Assert.Equal(x.shape[1], stream.Position);
        Assert.True(Difference(expected, cat(outputs, 1)) < 1e-12);
    }

    [Fact]
    public void In_a_stream_its_padding_mask_is_combined_with_the_streamers_token_info()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(Width, Heads, Segment, causalWithoutMask: true, gateInit: 1);
        var x = randn(3 * Segment, Batch, Width);
        var starts = zeros(Batch, 3 * Segment, @bool);
        starts[0, 11] = true;
        var padding = zeros(Batch, 3 * Segment, @bool);
        padding[1, 4] = true;

        using var stream = new SegmentStreamer(layer);
        Tensor joined, alone;
        using (stream.Activate(new TokenInfo { DocumentStarts = starts }))
        {
            joined = layer.call(x, x, x, padding, false).Item1;
        }

        stream.Reset();
        using (stream.Activate(new TokenInfo { DocumentStarts = starts, KeyPaddingMask = padding }))
        {
            alone = layer.call(x, x, x, null, false).Item1;
        }

        Assert.Equal(0, Difference(alone, joined));
        Assert.True(Difference(layer.call(x, x, x, padding, false).Item1, joined) > 1e-4);
    }

    [Fact]
    public void Token_info_of_another_shape_is_refused_before_a_padding_mask_is_combined_with_it()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(Width, Heads, Segment, causalWithoutMask: true);
        var x = randn(3, Batch, Width);
        var padding = zeros(Batch, 3, @bool);
        using var stream = new SegmentStreamer(layer);
        foreach (var shape in new[] { new long[] { Batch, 4 }, [1, 3] })
        {
            using var active = stream.Activate(new TokenInfo { KeyPaddingMask = zeros(shape, @bool) });
            Assert.Throws<ArgumentException>("KeyPaddingMask", () => layer.call(x, x, x, padding, false));
        }

        Assert.Equal(0, stream.Position);
    }

    public static TheoryData<ScalarType> Types => [.. FloatTypes.All];

    [Theory]
    [MemberData(nameof(Types))]
    public void Its_weights_are_finite_even_if_the_scores_overflow_half_precision(ScalarType type)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var layer = new InfiniMultiheadAttention(128, 2, 4, causalWithoutMask: true, dtype: type);
        layer.parameters().First(parameter => parameter.shape[0] == 3 * 128).fill_(1.0 / 3);
        var x = ones(4, 1, 128, type); // queries and keys of 128/3: 64 products of 1820 exceed 65504

        var (output, weights) = layer.call(x, x, x);

        Assert.Equal(type, weights.dtype);
        Assert.True(output.isfinite().all().item<bool>());
        Assert.True(weights.isfinite().all().item<bool>());
        Assert.Equal(0.25f, weights.to(ScalarType.Float32)[0, 3, 0].item<float>(), 3);
    }

    [Fact]
    public void Weights_that_would_ignore_the_rotation_are_refused()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(
            new InfiniAttentionOptions { EmbedDim = Width, NumHeads = Heads, SegmentLength = Segment, Bias = true, Rotary = new() },
            causalWithoutMask: true);
        Tensor x = randn(5, Batch, Width);
        Assert.Contains("with Rotary", Assert.Throws<ArgumentException>("need_weights", () => layer.call(x, x, x)).Message);
        Assert.Equal(x.shape, layer.call(x, x, x, need_weights: false).Item1.shape);
    }

    [Fact]
    public void In_a_stream_weights_are_refused_after_the_first_call()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(Width, Heads, Segment, causalWithoutMask: true);
        var x = randn(2, Batch, Width);
        using var stream = new SegmentStreamer(layer);
        using (stream.Activate())
        {
            layer.call(x, x, x);
            Assert.Contains("tokens 2 to 4", Assert.Throws<ArgumentException>("need_weights", () => layer.call(x, x, x)).Message);
        }

        using (stream.Activate(new TokenInfo { KeyPaddingMask = zeros(Batch, 2, @bool) }))
        {
            Assert.Throws<ArgumentException>("need_weights", () => layer.call(x, x, x));
            layer.call(x, x, x, need_weights: false);
        }

        Assert.Equal(4, stream.Position);
    }

    [Fact]
    public void It_moves_to_another_type_as_a_whole_and_leaves_no_tensor_behind()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(Width, Heads, Segment, causalWithoutMask: true).to(ScalarType.Float64);
        var x = randn(2 * Segment, Batch, Width, ScalarType.Float64);
        var first = x.narrow(0, 0, Segment);
        Assert.All(layer.parameters(), parameter => Assert.Equal(ScalarType.Float64, parameter.dtype));
        using (no_grad())
        {
            layer.call(x, x, x, need_weights: false).Item1.Dispose();
            var before = LiveTensors.Count;
            layer.call(x, x, x, need_weights: false).Item1.Dispose();
            var (output, weights) = layer.call(first, first, first);
            output.Dispose();
            weights.Dispose();
            Assert.Equal(before, LiveTensors.Count);
        }
    }
}
