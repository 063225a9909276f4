using InfiniAttention.Tests.Snippets;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>A plain block and the layer converted from it compute the same until the memory takes part.</summary>
public class ConversionTests(ITestOutputHelper output)
{
    private const long Batch = 3;

    [Theory]
    [MemberData(nameof(LayoutCase.Names), MemberType = typeof(LayoutCase))]
    public void A_converted_layer_is_unchanged_up_to_the_first_boundary(string name)
    {
        var layout = LayoutCase.Of(name);
        foreach (var (type, tolerance) in new[] { (ScalarType.Float32, 1e-5), (ScalarType.Float64, 1e-12) })
        {
            var largest = 0.0;
            for (long tokens = 1; tokens <= layout.Options.SegmentLength; tokens++)
            {
                using var scope = NewDisposeScope();
                manual_seed(tokens);
                var (block, layer) = layout.Convert(type);
                var x = randn(Batch, tokens, layout.Options.EmbedDim, type);
                largest = Math.Max(largest, Difference(block.call(x, null), layer.call(x)));
            }

            output.WriteLine($"{name}, {type}: largest difference {largest:E1}");
            Assert.True(largest < tolerance, $"{type}: {largest:E1}");
        }
    }

    [Theory]
    [MemberData(nameof(LayoutCase.Names), MemberType = typeof(LayoutCase))]
    public void A_converted_layer_is_unchanged_with_padding_before_between_and_after(string name)
    {
        var layout = LayoutCase.Of(name);
        foreach (var (type, tolerance) in new[] { (ScalarType.Float32, 1e-5), (ScalarType.Float64, 1e-12) })
        {
            using var scope = NewDisposeScope();
            manual_seed(4);
            var (block, layer) = layout.Convert(type);
            var x = randn(Batch, layout.Options.SegmentLength, layout.Options.EmbedDim, type);
            var padding = zeros(Batch, layout.Options.SegmentLength, @bool);
            padding[0, TensorIndex.Slice(0, 3)] = true;
            padding[1, TensorIndex.Slice(5, 9)] = true;
            padding[2, TensorIndex.Slice(12, null)] = true;

            var expected = block.call(x, padding);
            var actual = layer.forward(x, new TokenInfo { KeyPaddingMask = padding });

            Assert.True(isfinite(actual).all().item<bool>());
            var difference = Difference(expected[~padding], actual[~padding]);
            Assert.True(difference < tolerance, $"{type}: {difference:E1}");
        }
    }

    [Theory]
    [MemberData(nameof(LayoutCase.Names), MemberType = typeof(LayoutCase))]
    public void After_the_first_segment_the_memory_takes_part(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(5);
        var layout = LayoutCase.Of(name);
        var (block, layer) = layout.Convert(ScalarType.Float64);
        var n = layout.Options.SegmentLength;
        var x = randn(Batch, 3 * n, layout.Options.EmbedDim, ScalarType.Float64);
        var y = layer.call(x);
        var second = y.narrow(1, n, n);

        // The output differs from the block's over both segments and from its output over the second segment alone.
        Assert.True(Difference(block.call(x, null).narrow(1, n, n), second) > 1e-3);
        Assert.True(Difference(block.call(x.narrow(1, n, n), null), second) > 1e-3);

        // The third segment depends on a token of the first.
        var other = x.clone();
        other[TensorIndex.Colon, 2] += 1;
        Assert.True(Difference(layer.call(other).narrow(1, 2 * n, n), y.narrow(1, 2 * n, n)) > 1e-5);
    }

    [Theory]
    [MemberData(nameof(LayoutCase.Names), MemberType = typeof(LayoutCase))]
    public void Saving_gives_the_original_weights_in_their_layout(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(6);
        var layout = LayoutCase.Of(name);
        var (block, layer) = layout.Convert(ScalarType.Float32);

        var saved = AttentionWeights.Save(layer, layout.Layout, layout.Prefix, layout.Pairing);

        var original = block.state_dict();
        Assert.Equal(original.Keys.Order(), saved.Keys.Order());
        Assert.All(saved, entry => Assert.Equal(0, Difference(original[entry.Key], entry.Value)));
        Assert.All(saved.Values, tensor => Assert.False(tensor.requires_grad));

        // The saved tensors are copies: changing the layer does not change them.
        var other = (PlainBlock)layout.CreateBlock();
        other.load_state_dict(saved);
        using (no_grad())
        {
            layer.get_parameter("q_proj.weight")!.zero_();
        }

        var x = randn(Batch, 7, layout.Options.EmbedDim);
        Assert.Equal(0, Difference(block.call(x, null), other.call(x, null)));
    }

    [Fact]
    public void Every_layout_can_become_every_other()
    {
        using var scope = NewDisposeScope();
        var options = new InfiniAttentionOptions { EmbedDim = 24, NumHeads = 4, NumKeyValueHeads = 2, SegmentLength = 8, Bias = true, Rotary = new(Width: 4) };
        var layer = new InfiniAttentionModule(options);
        var other = new InfiniAttentionModule(options with { Rotary = new(Pairing: RotaryPairing.Interleaved, Width: 4) });
        var x = randn(2, 20, 24);
        var expected = layer.call(x);
        foreach (var layout in Enum.GetValues<AttentionLayout>())
        {
            foreach (var pairing in Enum.GetValues<RotaryPairing>())
            {
                var saved = AttentionWeights.Save(layer, layout, "model.layers.3.", pairing);
                Assert.All(saved.Keys, key => Assert.StartsWith("model.layers.3.", key));
                Assert.Equal(layout, AttentionWeights.Load(other, saved, "model.layers.3", pairing));

                // This includes the memory: its feature map is element-wise, so a permutation of the pairs does not change what is read.
                Assert.True(Difference(expected, other.call(x)) < 1e-5);
            }
        }
    }

    [Fact]
    public void Weights_are_loaded_from_under_a_prefix_and_converted_to_the_layers_type()
    {
        using var scope = NewDisposeScope();
        var options = new InfiniAttentionOptions { EmbedDim = 24, NumHeads = 4, SegmentLength = 8 };
        var source = new InfiniAttentionModule(options, dtype: ScalarType.BFloat16);
        var model = source.state_dict().ToDictionary(entry => $"layers.1.attn.{entry.Key}", entry => entry.Value);
        model["layers.1.attn.rotary_emb.inv_freq"] = ones(3);
        model["layers.10.attn.q_proj.weight"] = ones(3);
        model["norm.weight"] = ones(24);
        using (no_grad())
        {
            source.Gate.fill_(0.75);
        }

        var layer = new InfiniAttentionModule(options);
        AttentionWeights.Load(layer, model, "layers.1.attn", skip: ["rotary_emb.inv_freq"]);

        foreach (var (name, tensor) in layer.state_dict())
        {
            Assert.Equal(ScalarType.Float32, tensor.dtype);
            Assert.Equal(0, Difference(model[$"layers.1.attn.{name}"].to(ScalarType.Float32), tensor));
        }
    }

    [Fact]
    public void A_layer_is_made_from_a_module_in_one_call()
    {
        using var scope = NewDisposeScope();
        foreach (var bias in new[] { true, false })
        {
            var attention = nn.MultiheadAttention(32, 4, bias: bias);
            attention.eval();
            var layer = InfiniAttentionModule.From(attention, new() { EmbedDim = 32, NumHeads = 4, SegmentLength = 16 });
            Assert.Equal(bias, layer.Options.Bias);
            Assert.False(layer.training);

            var x = randn(16, 2, 32);
            var expected = attention.call(x, x, x, null, false, PlainBlock.CausalMask(16, x.dtype)).Item1.transpose(0, 1);
            Assert.True(Difference(expected, layer.call(x.transpose(0, 1))) < 1e-5);
        }
    }

    internal static double Difference(Tensor expected, Tensor actual)
    {
        using var scope = NewDisposeScope();
        Assert.Equal(expected.shape, actual.shape);
        return (expected - actual).abs().max().to(ScalarType.Float64).item<double>();
    }

    [Fact]
    public void Frozen_weights_stay_frozen()
    {
        using var scope = NewDisposeScope();
        var options = new InfiniAttentionOptions { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 };
        var before = nn.MultiheadAttention(8, 2);
        before.get_parameter("in_proj_weight")!.requires_grad_(false);
        before.get_parameter("out_proj.bias")!.requires_grad_(false);
        var layer = InfiniAttentionModule.From(before, options);
        Assert.Equal(
            ["k_proj.weight", "o_proj.bias", "q_proj.weight", "v_proj.weight"],
            layer.named_parameters().Where(entry => !entry.parameter.requires_grad).Select(entry => entry.name).Order(StringComparer.Ordinal));
    }
}
