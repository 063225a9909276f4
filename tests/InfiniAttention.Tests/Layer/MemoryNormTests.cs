using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The options beyond the paper: what the properties over random layers do not cover.</summary>
public class MemoryNormTests(ITestOutputHelper output)
{
    private static readonly LayerCase Recall = new()
    {
        Seed = 5,
        Length = 14,
        HeadsPerGroup = 2,
        Rotary = RotaryPairing.Halves,
        Norm = true,
        OwnMemoryProjections = true,
        LocalSegments = 2,
    };

    public static TheoryData<MemoryUpdate, int> Rules => new()
    {
        { MemoryUpdate.Linear, 1 },
        { MemoryUpdate.Linear, 2 },
        { MemoryUpdate.Delta, 1 },
        { MemoryUpdate.Delta, 2 },
    };

    [Theory]
    [MemberData(nameof(Rules))]
    public void Gradients_equal_finite_differences(MemoryUpdate update, int localSegments)
    {
        const double Step = 1e-6;
        using var scope = NewDisposeScope();
        LayerCase one = Recall with { Update = update, LocalSegments = localSegments, Padding = true, WriteWeights = true };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input().detach();
        TokenInfo? info = one.Info();
        Tensor Loss() => LayerRun.Probe(one.Seed, layer.forward(x, info));
        Loss().backward();
        using var mode = no_grad();
        var draw = new Draw(one.Seed + 9);
        foreach (var (name, parameter) in layer.named_parameters())
        {
            Tensor direction = draw.Normal(1, parameter.shape);
            double expected = (parameter.grad! * direction).sum().item<double>();
            parameter.add_(direction * Step);
            double above = Loss().item<double>();
            parameter.sub_(direction * (2 * Step));
            double below = Loss().item<double>();
            parameter.add_(direction * Step);
            double found = (above - below) / (2 * Step);
            output.WriteLine($"{name}: {expected} by automatic differentiation, {found} by differences");
            Assert.True(Math.Abs(found - expected) <= 1e-6 * Math.Max(1, Math.Abs(expected)), $"{name}: {expected}, {found} by differences");
        }
    }

    [Theory]
    [MemberData(nameof(Rules))]
    public void Up_to_the_first_boundary_the_layer_equals_the_plain_one(MemoryUpdate update, int localSegments)
    {
        using var scope = NewDisposeScope();
        LayerCase one = Recall with { Update = update, LocalSegments = localSegments };
        InfiniAttentionModule recalls = one.Layer();
        InfiniAttentionModule plain = (one with { Norm = false, OwnMemoryProjections = false, LocalSegments = 1 }).Layer();
        LoadedWeights loaded = AttentionWeights.LoadModel(plain, recalls.state_dict());
        Assert.Equal(5, loaded.LeftOver.Count);
        Tensor x = one.Input().narrow(1, 0, one.Segment);
        Difference.Close(plain.forward(x), recalls.forward(x), 0, "the first segment");
        Tensor longer = one.Input();
        Assert.True((plain.forward(longer) - recalls.forward(longer)).abs().max().item<double>() > 1e-3);
    }

    [Fact]
    public void Weights_load_across_the_options_both_ways_and_what_differs_is_named()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule plain = (Recall with { Norm = false, OwnMemoryProjections = false }).Layer(), recalls = (Recall with { Seed = 6 }).Layer();
        string[] ofMemory = ["memory_k_proj.weight", "memory_norm.key_scale", "memory_norm.query_scale", "memory_norm.read_weight", "memory_q_proj.weight"];
        Tensor scale = recalls.state_dict()["memory_norm.key_scale"].detach().clone();

        LoadedWeights there = AttentionWeights.LoadModel(recalls, plain.state_dict());
        Assert.Equal(ofMemory, there.Missing.Order());
        Assert.Empty(there.LeftOver);
        Difference.Close(plain.state_dict()["k_proj.weight"], recalls.state_dict()["k_proj.weight"], 0, "k_proj");
        Difference.Close(scale, recalls.state_dict()["memory_norm.key_scale"], 0, "what was missing");

        LoadedWeights back = AttentionWeights.LoadModel(plain, recalls.state_dict());
        Assert.Equal(ofMemory, back.LeftOver.Order());
        Assert.Empty(back.Missing);

        // Loading one block: the memory's own weights are optional, and are loaded if present.
        InfiniAttentionModule again = (Recall with { Seed = 7 }).Layer();
        AttentionWeights.Load(again, recalls.state_dict());
        Assert.All(recalls.state_dict(), entry => Difference.Close(entry.Value, again.state_dict()[entry.Key], 0, entry.Key));
        AttentionWeights.Load(again, plain.state_dict());
        Difference.Close(scale, again.state_dict()["memory_norm.key_scale"], 0, "the norm after a plain block");
        Assert.Contains("'memory_norm.key_scale' (2) is left over", Assert.Throws<ArgumentException>(() => AttentionWeights.Load(plain, recalls.state_dict())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Reset_parameters_initialises_the_norms_and_the_memorys_projections()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Recall.Layer();
        layer.reset_parameters();
        Dictionary<string, Tensor> weights = layer.state_dict();
        Difference.Close(full([4], 6.0, ScalarType.Float64), weights["memory_norm.query_scale"], 0, "a");
        Difference.Close(full([2], 6.0, ScalarType.Float64), weights["memory_norm.key_scale"], 0, "b");
        Difference.Close(ones([4, 4], ScalarType.Float64), weights["memory_norm.read_weight"], 0, "w");
        Assert.InRange(weights["memory_q_proj.weight"].std().item<double>() * Math.Sqrt(Recall.EmbedDim), 0.7, 1.3);
    }

    /// <summary>Each key is written once with a value and once with its negative, and inputs may be 0: A_mem is 0 up to rounding, and the norm divides by almost 0.</summary>
    [Theory]
    [InlineData(ScalarType.Float64)]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.BFloat16)]
    [InlineData(ScalarType.Float16)]
    public void A_memory_of_values_that_cancel_gives_finite_outputs_and_gradients(ScalarType type)
    {
        foreach (MemoryUpdate update in Enum.GetValues<MemoryUpdate>())
        {
            using var scope = NewDisposeScope();
            LayerCase one = Recall with { Update = update, Length = 4 * Recall.Segment, OwnMemoryProjections = false, Rotary = null };
            InfiniAttentionModule layer = one.Layer();
            using (no_grad())
            {
                // k uses the first half of x, v the second.
                layer.state_dict()["k_proj.weight"].narrow(1, 4, 4).zero_();
                layer.state_dict()["v_proj.weight"].narrow(1, 0, 4).zero_();
            }

            layer.to(type);
            Tensor pairs = one.Input().detach().narrow(1, 0, one.Length / 2);
            Tensor opposite = pairs * tensor(new[] { 1.0, 1, 1, 1, -1, -1, -1, -1 });
            Tensor x = stack([pairs, opposite], 2).reshape(one.Batch, one.Length, one.EmbedDim).to(type).requires_grad_(true);
            foreach (Tensor input in new[] { x, zeros_like(x).requires_grad_(true) })
            {
                layer.zero_grad();
                Tensor y = layer.forward(input);
                y.to(ScalarType.Float32).square().sum().backward();
                Assert.True(y.isfinite().all().item<bool>(), $"outputs in {type}, {update}");
                Assert.True(input.grad!.isfinite().all().item<bool>(), $"gradient of the input in {type}, {update}");
                Assert.All(layer.named_parameters(), p => Assert.True(p.parameter.grad!.isfinite().all().item<bool>(), $"gradient of {p.name} in {type}, {update}"));
            }

            using var mode = no_grad();
            Assert.True(layer.forward(x).isfinite().all().item<bool>(), $"without gradients in {type}, {update}");
        }
    }

    /// <summary>The errors of float32 and bfloat16 against float64 along a stream, relative to the largest output.</summary>
    [Fact]
    public void Errors_do_not_grow_with_the_stream()
    {
        foreach (MemoryUpdate update in Enum.GetValues<MemoryUpdate>())
        {
            foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.BFloat16 })
            {
                using var scope = NewDisposeScope();
                using var mode = no_grad();
                LayerCase one = Recall with { Batch = 1, Segment = 32, Length = 32 * 1024, HeadDim = 8, ValueDim = 8, EmbedDim = 32, Update = update };
                InfiniAttentionModule exact = one.Layer(), layer = one.Layer();
                Tensor x = one.Input().detach().to(type);
                exact.to(type);
                exact.to(ScalarType.Float64);
                layer.to(type);
                Tensor expected = exact.forward(x.to(ScalarType.Float64)), actual = layer.forward(x).to(ScalarType.Float64);
                double Error(int start) => ((expected - actual).narrow(1, start, 1024).abs().max() / expected.narrow(1, start, 1024).abs().max()).item<double>();
                double early = Error(1024), late = Error(one.Length - 1024);
                output.WriteLine($"{type}, {update}: {early:0.0E+0} after 1K tokens, {late:0.0E+0} after 32K");
                Assert.InRange(late, 0, Math.Min(40 * FloatTypes.Precision(type), 4 * early));
            }
        }
    }

    [Fact]
    public void A_row_that_was_not_finite_leaves_no_trace_in_the_segment_in_view_after_a_reset()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        LayerCase one = Recall with { Length = 3 * Recall.Segment };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input().detach(), spoilt = x.clone();
        spoilt.select(0, 0).narrow(0, 0, one.Segment + 2).fill_(double.NaN);

        // Row 0 is NaN up to the middle of the second segment and is then reset.
        (Tensor first, MemoryState state) = layer.ForwardFrom(null, spoilt.narrow(1, 0, one.Segment + 2));
        MemoryState reset = state.ResetRows(tensor(new[] { true, false }));
        Tensor rest = layer.ForwardFrom(reset, x.narrow(1, one.Segment + 2, one.Segment)).Output;
        Assert.True(first.select(0, 0).isnan().all().item<bool>());
        Assert.True(rest.isfinite().all().item<bool>());

        Tensor starts = zeros([2, one.Length], ScalarType.Bool);
        starts[0, one.Segment + 2] = tensor(true);
        Tensor byDocument = layer.forward(x, new() { DocumentStarts = starts });
        Difference.Close(byDocument.narrow(1, one.Segment + 2, one.Segment), rest, 1e-12, "a reset row against a document start");
    }

    [Fact]
    public void The_segment_in_view_counts_in_Bytes_and_is_refused_by_layers_that_do_not_see_it()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Recall.Layer(), other = (Recall with { LocalSegments = 1 }).Layer();
        Tensor x = Recall.Input().detach().narrow(1, 0, Recall.Segment);
        MemoryState state = layer.ForwardFrom(null, x).State, without = other.ForwardFrom(null, x).State;
        long keysAndValues = Recall.Batch * Recall.Segment * Recall.KeyValueHeads * (Recall.HeadDim + Recall.ValueDim) * sizeof(double);
        Assert.Equal(without.Bytes + keysAndValues, state.Bytes);
        Assert.Contains("in view", Assert.Throws<ArgumentException>(() => other.ForwardFrom(state, x)).Message, StringComparison.Ordinal);

        // A state without an earlier segment is valid: nothing is in view.
        Tensor alone = layer.ForwardFrom(without, x).Output, same = other.ForwardFrom(without, x).Output;
        Difference.Close(same, alone, 1e-12, "with nothing in view");
    }

    [Fact]
    public void LocalSegments_other_than_1_or_2_is_refused()
    {
        foreach (long segments in new long[] { 0, 3, -1 })
        {
            var error = Assert.Throws<ArgumentException>(() => new InfiniAttentionModule(Recall.Options() with { LocalSegments = segments }));
            Assert.Contains($"LocalSegments is {segments}; it must be 1 or 2", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void The_drop_in_module_supports_the_options()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionOptions options = new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4, MemoryNorm = true, OwnMemoryProjections = true, LocalSegments = 2, Rotary = new() };
        var dropIn = new InfiniMultiheadAttention(options, causalWithoutMask: true);
        var layer = new InfiniAttentionModule(options);
        Dictionary<string, Tensor> weights = dropIn.state_dict();
        AttentionWeights.Load(layer, weights.ToDictionary(entry => entry.Key.Replace("attention.", "", StringComparison.Ordinal), entry => entry.Value));
        Tensor x = randn(14, 3, 8);
        Difference.Close(layer.forward(x.transpose(0, 1)).transpose(0, 1), dropIn.call(x, x, x, need_weights: false).Item1, 1e-6, "outputs");
        Assert.Contains("attention.memory_norm.read_weight", weights.Keys);
    }
}
