using InfiniAttention.Tests.Snippets;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>Weights that cannot be loaded are refused: the error says what was found and what is supported, and nothing is loaded.</summary>
public class ConversionBadInputTests
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 24, NumHeads = 4, NumKeyValueHeads = 2, SegmentLength = 8 };

    private static Dictionary<string, Tensor> Weights() => new()
    {
        ["q_proj.weight"] = randn(24, 24),
        ["k_proj.weight"] = randn(12, 24),
        ["v_proj.weight"] = randn(12, 24),
        ["o_proj.weight"] = randn(24, 24),
    };

    private static void IsRefused(Action<Dictionary<string, Tensor>> spoil, params string[] words) => IsRefused(Options, spoil, words);

    private static void IsRefused(InfiniAttentionOptions options, Action<Dictionary<string, Tensor>> spoil, params string[] words)
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(options);
        var before = layer.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().clone());
        var weights = Weights();
        spoil(weights);

        var error = Assert.Throws<ArgumentException>("stateDict", () => AttentionWeights.Load(layer, weights));

        Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
        Assert.All(layer.state_dict(), entry => Assert.Equal(0, ConversionTests.Difference(before[entry.Key], entry.Value)));
    }

    [Fact]
    public void One_error_names_everything_missing_left_over_or_of_a_wrong_shape() => IsRefused(
        weights =>
        {
            weights.Remove("v_proj.weight");
            weights["k_proj.weight"] = randn(24, 24);
            weights["q_norm.weight"] = randn(6);
            weights["gate"] = randn(2);
            weights["o_proj.weight"] = ones(24, 24, ScalarType.Int32);
        },
        "'v_proj.weight' (12, 24) is missing",
        "'k_proj.weight' has shape (24, 24); the layer takes (12, 24)",
        "'q_norm.weight' (6) is left over",
        "'gate' has shape (2); the layer takes (4)",
        "'o_proj.weight' is of type Int32",
        "nothing was loaded");

    [Fact]
    public void Biases_that_the_options_do_not_say_are_named_with_their_option()
    {
        IsRefused(weights => weights["q_proj.bias"] = randn(24), "'q_proj.bias' (24) is left over; with it Bias or QueryBias must be true");
        IsRefused(Options with { Bias = true }, weights => weights["q_proj.bias"] = randn(24),
            "'k_proj.bias' (12) is missing; without it Bias or KeyBias must be false", "'o_proj.bias' (24) is missing; without it Bias or OutputBias must be false");
    }

    [Fact]
    public void Norms_that_the_options_do_not_say_are_named_with_their_option()
    {
        IsRefused(weights => weights["k_norm.weight"] = randn(6), "'k_norm.weight' (6) is left over; with it QueryKeyNorm must be true");
        IsRefused(Options with { QueryKeyNorm = true }, weights => weights["k_norm.weight"] = randn(24),
            "'q_norm.weight' (6) is missing; without it QueryKeyNorm must be false", "'k_norm.weight' has shape (24); the layer takes (6)");
    }

    [Theory]
    [InlineData("q_norm.weight")]
    [InlineData("q_proj.bias")]
    [InlineData("k_layernorm.weight")]
    public void Weights_cannot_be_skipped(string name)
    {
        using var scope = NewDisposeScope();
        var weights = Weights();
        weights[name] = randn(6);
        var error = Assert.Throws<ArgumentException>("skip", () => AttentionWeights.Load(new(Options), weights, skip: ["rotary_emb.inv_freq", name]));
        Assert.Contains($"'{name}'", error.Message);
    }

    [Fact]
    public void One_bias_for_queries_keys_and_values_does_not_fit_a_layer_in_which_only_some_have_one()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options with { QueryBias = true });
        var saved = AttentionWeights.Save(layer, AttentionLayout.Phi3);
        Assert.Contains("QueryBias, KeyBias and ValueBias are True, False and False", Assert.Throws<ArgumentException>(() => AttentionWeights.Load(layer, saved)).Message);

        var full = new InfiniAttentionModule(Options with { QueryBias = true, KeyBias = true, ValueBias = true });
        AttentionWeights.Load(full, saved);
        var x = randn(2, 11, 24);
        Assert.Equal(0, ConversionTests.Difference(layer.call(x), full.call(x)));
    }

    [Fact]
    public void An_embedding_width_that_does_not_match_is_refused() => IsRefused(
        weights => weights["q_proj.weight"] = randn(32, 32), "'q_proj.weight' has shape (32, 32)", "(24, 24)");

    [Fact]
    public void Cross_attention_weights_are_refused() => IsRefused(
        weights =>
        {
            weights.Clear();
            (weights["q_proj_weight"], weights["k_proj_weight"], weights["v_proj_weight"]) = (randn(24, 24), randn(24, 10), randn(24, 10));
            weights["out_proj.weight"] = randn(24, 24);
        },
        "q_proj_weight, k_proj_weight, v_proj_weight", "cross-attention", "in_proj_weight");

    [Fact]
    public void Added_key_and_value_biases_are_refused() => IsRefused(
        weights =>
        {
            weights.Clear();
            (weights["in_proj_weight"], weights["out_proj.weight"]) = (randn(72, 24), randn(24, 24));
            (weights["bias_k"], weights["bias_v"]) = (randn(1, 1, 24), randn(1, 1, 24));
        },
        "bias_k, bias_v", "add_bias_kv");

    [Fact]
    public void An_unsupported_layout_is_refused()
    {
        IsRefused(
            weights =>
            {
                weights.Clear();
                (weights["query.weight"], weights["key.weight"]) = (randn(24, 24), randn(12, 24));
            },
            "'query.weight' (24, 24)", "'key.weight' (12, 24)", "Supported layouts", "wq.weight wk.weight wv.weight wo.weight", "qkv_proj.weight o_proj.weight",
            "q_proj.weight k_proj.weight v_proj.weight dense.weight");
        IsRefused(weights => weights["dense.weight"] = randn(24, 24), "'dense.weight' (24, 24)", "'o_proj.weight' (24, 24)", "Supported layouts");
        IsRefused(weights => weights.Clear(), "nothing there");
        IsRefused(
            weights =>
            {
                weights.Clear();
                for (var i = 10; i < 40; i++)
                {
                    weights[$"layers.{i}.norm.weight"] = ones(24);
                }
            },
            "'layers.10.norm.weight'", "and 10 more", "prefix");
    }

    [Fact]
    public void A_wrong_prefix_is_named()
    {
        using var scope = NewDisposeScope();
        var error = Assert.Throws<ArgumentException>("stateDict", () => AttentionWeights.Load(new(Options), Weights(), "layers.0"));
        Assert.Contains("'layers.0'", error.Message);
    }

    [Fact]
    public void A_pairing_without_rotary_embedding_and_undefined_enum_values_are_refused()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        Assert.Throws<ArgumentException>("pairing", () => AttentionWeights.Load(layer, Weights(), pairing: RotaryPairing.Halves));
        Assert.Throws<ArgumentException>("pairing", () => AttentionWeights.Save(layer, AttentionLayout.HuggingFaceLlama, pairing: RotaryPairing.Halves));
        Assert.Throws<ArgumentException>("pairing", () => AttentionWeights.Load(layer, Weights(), pairing: (RotaryPairing)7));
        Assert.Throws<ArgumentException>("layout", () => AttentionWeights.Save(layer, (AttentionLayout)7));
    }

    [Fact]
    public void A_module_of_another_kind_or_width_is_refused()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionOptions options = new() { EmbedDim = 24, NumHeads = 4, SegmentLength = 8 };
        AssertRefused(nn.MultiheadAttention(32, 4), "'in_proj_weight' has shape (96, 32); the layer takes (72, 24)");
        AssertRefused(nn.MultiheadAttention(24, 4, kdim: 10, vdim: 12), "cross-attention");

        void AssertRefused(TorchSharp.Modules.MultiheadAttention attention, string words) =>
            Assert.Contains(words, Assert.ThrowsAny<ArgumentException>(() => InfiniAttentionModule.From(attention, options)).Message);
    }

    [Fact]
    public void The_layer_inside_a_multihead_module_has_no_weights_of_its_own()
    {
        using var scope = NewDisposeScope();
        var inner = new InfiniMultiheadAttention(24, 4, 8).modules().OfType<InfiniAttentionModule>().Single();
        Assert.Throws<ArgumentException>("module", () => AttentionWeights.Load(inner, Weights()));
        Assert.Throws<ArgumentException>("module", () => AttentionWeights.Save(inner, AttentionLayout.HuggingFaceLlama));
    }

    [Fact]
    public void Multihead_options_without_an_equivalent_are_refused()
    {
        Assert.Throws<ArgumentException>("add_bias_kv", () => new InfiniMultiheadAttention(24, 4, 8, add_bias_kv: true));
        Assert.Throws<ArgumentException>("add_zero_attn", () => new InfiniMultiheadAttention(24, 4, 8, add_zero_attn: true));
        Assert.Throws<ArgumentException>("kdim", () => new InfiniMultiheadAttention(24, 4, 8, kdim: 12));
        Assert.Throws<ArgumentException>("vdim", () => new InfiniMultiheadAttention(24, 4, 8, vdim: 12));
        Assert.ThrowsAny<ArgumentException>(() => new InfiniMultiheadAttention(24, 5, 8));
        Assert.ThrowsAny<ArgumentException>(() => new InfiniMultiheadAttention(24, 4, 0));
        var options = new InfiniAttentionOptions { EmbedDim = 24, NumHeads = 4, SegmentLength = 8 };
        Assert.Throws<ArgumentException>("options", () => new InfiniMultiheadAttention(options with { QueryKeyNorm = true }));
        Assert.Throws<ArgumentException>("options", () => new InfiniMultiheadAttention(options with { Bias = true, KeyBias = false }));
    }

    [Fact]
    public void Multihead_arguments_that_cannot_be_honoured_are_refused()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniMultiheadAttention(24, 4, 8);
        var x = randn(6, 2, 24);
        var causal = PlainBlock.CausalMask(6, x.dtype);

        Refuses("key", () => layer.call(x, x.clone(), x, attn_mask: causal), "itself");
        Refuses("key", () => layer.call(x, x, randn(9, 2, 24), attn_mask: causal), "itself");
        Refuses("query", () => Self(randn(6, 2, 23), causal), "(6, 2, 23)", "24");
        Refuses("query", () => Self(randn(6, 24), causal), "(6, 24)");
        Refuses("attn_mask", () => Self(x, null), "causal");
        Refuses("attn_mask", () => Self(x, zeros(6, 6)), "causal");
        Refuses("attn_mask", () => Self(x, zeros(6, 6, @bool)), "causal");
        Refuses("attn_mask", () => Self(x, causal.transpose(0, 1)), "causal");
        Refuses("attn_mask", () => Self(x, causal + 0.5), "causal");
        Refuses("attn_mask", () => Self(x, PlainBlock.CausalMask(7, x.dtype)), "(7, 7)", "(6, 6)");
        Refuses("key_padding_mask", () => layer.call(x, x, x, zeros(6, 2, @bool), attn_mask: causal), "(6, 2)", "(2, 6)");
        Refuses("key_padding_mask", () => layer.call(x, x, x, zeros(2, 6), attn_mask: causal), "Float32");

        var longer = randn(9, 2, 24);
        Refuses("need_weights", () => layer.call(longer, longer, longer, attn_mask: PlainBlock.CausalMask(9, x.dtype)), "9", "8");
        using var stream = new SegmentStreamer(layer);
        using (stream.Activate())
        {
            Self(x, causal);
            Refuses("need_weights", () => Self(x, causal), "12");
        }

        Tensor Self(Tensor input, Tensor? mask) => layer.call(input, input, input, attn_mask: mask).Item1;

        static void Refuses(string parameter, Action action, params string[] words)
        {
            var error = Assert.Throws<ArgumentException>(parameter, action);
            Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
        }
    }
}
