using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Values and gradients stay finite if numbers are very large, very small or missing.</summary>
public class NumericsTests
{
    private static readonly LayerCase Case = new()
    {
        Length = 22,
        HeadsPerGroup = 2,
        Rotary = RotaryPairing.Halves,
        Bias = true,
    };

    public static TheoryData<MemoryUpdate, ScalarType> RulesAndTypes
    {
        get
        {
            var data = new TheoryData<MemoryUpdate, ScalarType>();
            foreach (ScalarType type in FloatTypes.All)
            {
                data.Add(MemoryUpdate.Linear, type);
                data.Add(MemoryUpdate.Delta, type);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(RulesAndTypes))]
    public void Inputs_scaled_by_1e_minus_3_to_1e3_stay_finite(MemoryUpdate update, ScalarType type)
    {
        foreach (EmptyMemory empty in Enum.GetValues<EmptyMemory>())
        {
            foreach (double scale in new[] { 1e-3, 1e-2, 0.1, 1, 10, 100, 1e3 })
            {
                using var scope = NewDisposeScope();
                LayerCase one = Case with { Update = update, EmptyMemory = empty };
                IsHealthy(one, one.Weights(), type, one.Input().detach() * scale, null, $"scale {scale}");
            }
        }
    }

    [Theory]
    [MemberData(nameof(RulesAndTypes))]
    public void Wholly_padded_rows_stay_finite_and_write_nothing(MemoryUpdate update, ScalarType type)
    {
        foreach (EmptyMemory empty in Enum.GetValues<EmptyMemory>())
        {
            using var scope = NewDisposeScope();
            LayerCase one = Case with { Update = update, EmptyMemory = empty };
            Tensor padding = zeros(2, 22, dtype: ScalarType.Bool);
            padding.select(0, 1).fill_(true);
            MemoryState state = IsHealthy(one, one.Weights(), type, one.Input().detach(), new TokenInfo { KeyPaddingMask = padding }, "padded row");
            Assert.All(Difference.Numbers(state.Memory.select(0, 1)), m => Assert.Equal(0, m));
            Assert.All(Difference.Numbers(state.Normalizer.select(0, 1)), z => Assert.Equal(0, z));
        }
    }

    [Theory]
    [MemberData(nameof(RulesAndTypes))]
    public void Padding_that_is_not_finite_changes_nothing(MemoryUpdate update, ScalarType type)
    {
        using var scope = NewDisposeScope();
        LayerCase one = Case with { Update = update, Padding = true };
        InfiniAttentionModule layer = one.Layer().to(type);
        Tensor mask = one.Info()!.KeyPaddingMask!;
        Tensor x = one.Input().detach().to(type);
        foreach (double number in new[] { double.NaN, double.PositiveInfinity, type == ScalarType.Float64 ? 1e200 : type == ScalarType.Float16 ? 65504 : 1e30 })
        {
            Tensor spoilt = x.masked_fill(mask.unsqueeze(-1), number);
            using var mode = no_grad();
            (Tensor expected, MemoryState clean) = layer.ForwardFrom(null, x, new() { KeyPaddingMask = mask });
            (Tensor actual, MemoryState state) = layer.ForwardFrom(null, spoilt, new() { KeyPaddingMask = mask });
            IsFinite(actual, "outputs");
            Difference.Close(expected.masked_fill(mask.unsqueeze(-1), 0), actual.masked_fill(mask.unsqueeze(-1), 0), 0, "outputs of tokens");
            Difference.Close(clean.Memory, state.Memory, 0, "M");
            Difference.Close(clean.Normalizer, state.Normalizer, 0, "z");
            clean.Dispose();
            state.Dispose();
        }
    }

    [Theory]
    [MemberData(nameof(RulesAndTypes))]
    public void Rows_with_only_write_weights_of_0_stay_empty(MemoryUpdate update, ScalarType type)
    {
        using var scope = NewDisposeScope();
        LayerCase one = Case with { Update = update };
        Tensor writes = ones(2, 22);
        writes.select(0, 1).fill_(0);
        MemoryState state = IsHealthy(one, one.Weights(), type, one.Input().detach(), new TokenInfo { WriteWeights = writes }, "unwritten row");
        Assert.All(Difference.Numbers(state.Normalizer.select(0, 1)), z => Assert.Equal(0, z));
        Assert.All(Difference.Numbers(state.Normalizer.select(0, 0)), z => Assert.True(z > 0));
    }

    /// <summary>ELU(x) + 1 is exactly 0 in float32 below -17, and exp(x) below -104.</summary>
    [Theory]
    [MemberData(nameof(RulesAndTypes))]
    public void Queries_and_keys_whose_feature_map_underflows_give_finite_numbers(MemoryUpdate update, ScalarType type)
    {
        foreach (string[] projections in new[] { new[] { "q_proj" }, ["k_proj"], ["q_proj", "k_proj"] })
        {
            foreach (double shift in new[] { -10.0, -17, -40, -88, -104, -350, -745, -1e4 })
            {
                using var scope = NewDisposeScope();
                LayerCase one = Case with { Update = update };
                IsHealthy(one, Shifted(one, projections, shift), type, one.Input().detach(), null, $"{string.Join('+', projections)} {shift}");
            }
        }
    }

    /// <summary>Tokens written with very small weights, and large inputs.</summary>
    [Theory]
    [InlineData(MemoryUpdate.Linear, 1e-5, 1e3)]
    [InlineData(MemoryUpdate.Delta, 1e-5, 1e3)]
    [InlineData(MemoryUpdate.Linear, 1e-17, 1)]
    [InlineData(MemoryUpdate.Delta, 1e-17, 1)]
    public void Gradients_are_finite_if_write_weights_are_very_small(MemoryUpdate update, double weight, double scale)
    {
        using var scope = NewDisposeScope();
        LayerCase one = Case with { Update = update };
        InfiniAttentionModule layer = one.Layer().to(ScalarType.Float32);
        Tensor x = (one.Input().detach() * scale).to(ScalarType.Float32).requires_grad_(true);
        Tensor weights = full([x.shape[0], x.shape[1]], weight, ScalarType.Float32);

        layer.forward(x, new TokenInfo { WriteWeights = weights }).sum().backward();

        IsFinite(x.grad!, "gradient of the input");
        Assert.All(layer.named_parameters(), parameter => IsFinite(parameter.parameter.grad!, parameter.name));
    }

    [Fact]
    public void What_the_linear_rule_reads_lies_between_the_values_written_however_small_the_features()
    {
        foreach (string[] projections in new[] { new[] { "q_proj" }, ["k_proj"], ["q_proj", "k_proj"] })
        {
            foreach (double shift in new[] { 0.0, -17, -40, -104, -1e4 })
            {
                using var scope = NewDisposeScope();
                var one = new LayerCase { Length = 5, KeyValueHeads = 1, ValueDim = 8, EmbedDim = 8, Bias = true };
                Dictionary<string, Tensor> weights = Shifted(one, projections, shift);
                weights["o_proj.weight"] = eye(8, 8, ScalarType.Float64);
                weights["o_proj.bias"] = zeros(8, dtype: ScalarType.Float64);
                weights["gate"] = full([1], 50, dtype: ScalarType.Float64); // the memory alone
                InfiniAttentionModule layer = Layers.With(one.Options(), weights);
                Tensor x = one.Input().detach();
                Tensor values = nn.functional.linear(x, weights["v_proj.weight"], weights["v_proj.bias"]).narrow(1, 0, 4);
                (double[] low, double[] high) = (Difference.Numbers(values.amin([1])), Difference.Numbers(values.amax([1])));

                layer.to(ScalarType.Float32);
                double[] read = Difference.Numbers(layer.forward(x.to_type(ScalarType.Float32)).select(1, 4));
                for (int i = 0; i < read.Length; i++)
                {
                    Assert.InRange(read[i], low[i] - 1e-5, high[i] + 1e-5);
                }
            }
        }
    }

    /// <summary>Four segments whose write weights stand for ten million tokens, then ordinary ones.</summary>
    [Theory]
    [MemberData(nameof(RulesAndTypes))]
    public void A_memory_of_ten_million_tokens_stays_precise(MemoryUpdate update, ScalarType type)
    {
        using var scope = NewDisposeScope();
        LayerCase one = Case with { Segment = 16, Length = 16 * 5 + 7, Update = update };
        Tensor writes = ones(2, one.Length, dtype: ScalarType.Float64);
        writes.narrow(1, 0, 64).fill_(1e7 / 64);
        var info = new TokenInfo { WriteWeights = writes };
        Tensor x = one.Input().detach();
        MemoryState state = IsHealthy(one, one.Weights(), type, x, info, "ten million tokens");
        Assert.InRange(Difference.Numbers(state.Normalizer).Max(), 5e6, 1e8);

        InfiniAttentionModule exact = one.Layer(), layer = one.Layer();
        layer.to(type);
        Tensor expected = exact.forward(x, info), actual = layer.forward(x.to_type(type), info);
        Difference.Close(expected, actual, 40 * FloatTypes.Precision(type), "output");
    }

    /// <summary>Runs a layer forward and backward and requires every number to be finite.</summary>
    private static MemoryState IsHealthy(
        LayerCase one, Dictionary<string, Tensor> weights, ScalarType type, Tensor input, TokenInfo? info, string what)
    {
        InfiniAttentionModule layer = Layers.With(one.Options(), weights);
        layer.to(type);
        Tensor x = input.to_type(type).requires_grad_(true);
        (Tensor y, MemoryState state) = layer.ForwardFrom(null, x, info);
        IsFinite(y, $"{what}: output");
        IsFinite(state.Memory, $"{what}: memory");
        IsFinite(state.Normalizer, $"{what}: normalizer");

        y.mean().backward();
        IsFinite(x.grad!, $"{what}: gradient of the input");
        foreach ((string name, var parameter) in layer.named_parameters())
        {
            if (parameter.grad is { } gradient)
            {
                IsFinite(gradient, $"{what}: gradient of {name}");
            }
        }

        return state;
    }

    private static void IsFinite(Tensor x, string what) =>
        Assert.True(Difference.Numbers(x).All(double.IsFinite), $"{what} is not finite");

    private static Dictionary<string, Tensor> Shifted(LayerCase one, string[] projections, double shift)
    {
        Dictionary<string, Tensor> weights = one.Weights();
        foreach (string projection in projections)
        {
            weights[projection + ".bias"] = weights[projection + ".bias"].detach() + shift;
        }

        return weights;
    }
}
