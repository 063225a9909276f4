using InfiniAttention.Tests.Snippets;
using TorchSharp;
using TorchSharp.Modules;
using static InfiniAttention.Tests.Conversion.ConversionTests;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>The drop-in replacement for nn.MultiheadAttention.</summary>
public class InfiniMultiheadAttentionTests
{
    private const long Width = 24, Heads = 3, Segment = 8, Batch = 2;

    /// <summary>A model before and after one declaration is changed.</summary>
    private sealed class Model<TAttention>(TAttention attention) : nn.Module<Tensor, Tensor>("model")
        where TAttention : nn.Module<Tensor, Tensor, Tensor, Tensor?, bool, Tensor?, Tuple<Tensor, Tensor>>
    {
        private readonly LayerNorm norm = nn.LayerNorm(Width);
        private readonly TAttention self_attn = attention;
        private readonly Linear head = nn.Linear(Width, 5);

        public Model<TAttention> Registered()
        {
            RegisterComponents();
            return this;
        }

        public override Tensor forward(Tensor x)
        {
            var sequence = norm.call(x).transpose(0, 1);
            var mask = PlainBlock.CausalMask(x.shape[1], x.dtype);
            return head.call(self_attn.call(sequence, sequence, sequence, null, false, mask).Item1.transpose(0, 1));
        }
    }

    private sealed class Layers : nn.Module<Tensor, Tensor>
    {
        private readonly ModuleList<PlainBlock> layers;

        public Layers(params PlainBlock[] layers)
            : base("layers")
        {
            this.layers = nn.ModuleList(layers);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x) => layers.Aggregate(x, (y, layer) => y + layer.call(y, null));
    }

    private static Model<MultiheadAttention> Before() => new Model<MultiheadAttention>(nn.MultiheadAttention(Width, Heads)).Registered();

    private static Model<InfiniMultiheadAttention> After(double gateInit = 0) =>
        new Model<InfiniMultiheadAttention>(new(Width, Heads, Segment, gateInit: gateInit)).Registered();

    private static InfiniMultiheadAttention AttentionOf(nn.Module model) => model.modules().OfType<InfiniMultiheadAttention>().Single();

    [Fact]
    public void A_model_changes_one_declaration_and_loads_its_old_weights_strictly()
    {
        using var scope = NewDisposeScope();
        var (before, after) = (Before(), After());
        var old = before.state_dict();
        Assert.Equal(old.Keys.Append("self_attn.attention.gate").Order(), after.state_dict().Keys.Order());

        AttentionWeights.LoadModel(after, old);

        var x = randn(Batch, Segment, Width);
        Assert.True(Difference(before.call(x), after.call(x)) < 1e-5);
        Assert.True(Difference(before.call(x.tile([1, 2, 1])), after.call(x.tile([1, 2, 1]))) > 1e-4);
    }

    [Fact]
    public void Nested_layers_load_the_old_weights_of_a_model()
    {
        using var scope = NewDisposeScope();
        var before = new Layers(new MultiheadBlock(Width, Heads), new MultiheadBlock(Width, Heads));
        var after = new Layers(new InfiniMultiheadBlock(Width, Heads), new InfiniMultiheadBlock(Width, Heads));
        Assert.Equal(8, before.state_dict().Count);
        Assert.Equal(10, after.state_dict().Count);

        AttentionWeights.LoadModel(after, before.state_dict());

        var x = randn(Batch, Segment, Width);
        Assert.True(Difference(before.call(x), after.call(x)) < 1e-5);
        Assert.Equal(2, InfiniAttentionModule.GateParameters(after).Count);
    }

    [Fact]
    public void The_old_weights_can_be_loaded_from_a_file()
    {
        using var scope = NewDisposeScope();
        var (before, after) = (Before(), After());
        var path = Path.GetTempFileName();
        try
        {
            before.save(path);
            AttentionWeights.LoadModel(after, path);
        }
        finally
        {
            File.Delete(path);
        }

        var x = randn(Batch, Segment, Width);
        Assert.True(Difference(before.call(x), after.call(x)) < 1e-5);
    }

    [Fact]
    public void The_gate_is_always_in_a_checkpoint_and_always_loaded_strictly()
    {
        using var scope = NewDisposeScope();
        var trained = After();
        Assert.Contains("self_attn.attention.gate", trained.state_dict().Keys);
        using (no_grad())
        {
            AttentionOf(trained).Gate.add_(0.25);
        }

        var path = Path.GetTempFileName();
        var (byDictionary, byFile, byCall) = (After(), After(), After());
        try
        {
            trained.save(path);
            byFile.load(path);
        }
        finally
        {
            File.Delete(path);
        }

        byDictionary.load_state_dict(trained.state_dict());
        AttentionWeights.LoadModel(byCall, trained.state_dict());
        var x = randn(Batch, 3 * Segment, Width);
        Assert.All(new[] { byDictionary, byFile, byCall }, fresh => Assert.Equal(0, Difference(trained.call(x), fresh.call(x))));

        // An average of checkpoints has all their entries, the gate included.
        var average = trained.state_dict().ToDictionary(entry => entry.Key, entry => (entry.Value.detach() + After().state_dict()[entry.Key].detach()) / 2);
        After().load_state_dict(average);
    }

    [Fact]
    public void Weights_that_do_not_fit_a_model_are_named_and_nothing_is_loaded()
    {
        using var scope = NewDisposeScope();
        var (before, after) = (Before(), After());
        var wrong = before.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach());
        wrong.Remove("self_attn.out_proj.bias");
        wrong["self_attn.bias_k"] = zeros(3);
        var untouched = after.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().clone());
        var error = Assert.Throws<ArgumentException>(() => AttentionWeights.LoadModel(after, wrong));
        Assert.Contains("'self_attn.out_proj.bias' (8) is missing".Replace("8", $"{Width}", StringComparison.Ordinal), error.Message, StringComparison.Ordinal);
        Assert.Contains("'self_attn.bias_k' is left over", error.Message, StringComparison.Ordinal);
        wrong = before.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach());
        wrong["self_attn.out_proj.bias"] = zeros(3);
        Assert.Contains("'self_attn.out_proj.bias' has shape (3)", Assert.Throws<ArgumentException>(() => AttentionWeights.LoadModel(after, wrong)).Message, StringComparison.Ordinal);
        Assert.All(after.state_dict(), entry => Assert.Equal(0, Difference(untouched[entry.Key], entry.Value)));

        var path = Path.GetTempFileName();
        try
        {
            nn.Linear(3, 3).save(path);
            Assert.Contains("'weight' is left over", Assert.Throws<ArgumentException>(() => AttentionWeights.LoadModel(after, path)).Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(path);
        }

        Assert.All(after.state_dict(), entry => Assert.Equal(0, Difference(untouched[entry.Key], entry.Value)));
    }

    [Fact]
    public void A_file_that_does_not_fit_or_is_damaged_is_refused_and_nothing_is_loaded()
    {
        using var scope = NewDisposeScope();
        manual_seed(17);
        var (before, after) = (Before(), After());
        var untouched = after.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().clone());
        var path = Path.GetTempFileName();
        try
        {
            (string Name, Tensor Tensor)[] entries = [.. before.state_dict().Select(entry => (entry.Key, entry.Value.detach()))];
            Write(path, [.. entries[..^1], (entries[^1].Name, zeros(3))]);
            Refused<ArgumentException>($"'{entries[^1].Name}' has shape (3); the model's is");
            Write(path, [.. entries, entries[0]]);
            Refused<InvalidDataException>($"'{entries[0].Name}' twice");

            before.save(path);
            byte[] whole = File.ReadAllBytes(path);
            foreach (int length in Enumerable.Range(0, whole.Length).Where(i => i < 80 || i % 97 == 0 || i == whole.Length - 1))
            {
                File.WriteAllBytes(path, whole[..length]);
                Refused<InvalidDataException>("is damaged");
            }

            File.WriteAllBytes(path, [.. whole, 0]);
            Refused<InvalidDataException>("1 bytes follow");
            var random = new Random(18);
            for (int i = 0; i < 100; i++)
            {
                byte[] changed = [.. whole];
                random.NextBytes(changed.AsSpan(random.Next(60), 3));
                File.WriteAllBytes(path, changed);
                if (Record.Exception(() => AttentionWeights.LoadModel(after, path)) is { } error)
                {
                    Assert.True(error is InvalidDataException or ArgumentException, $"change {i}: {error}");
                    Unchanged();
                }
                else
                {
                    after.load_state_dict(untouched); // the change was in the numbers
                }
            }
        }
        finally
        {
            File.Delete(path);
        }

        static void Write(string path, (string Name, Tensor Tensor)[] entries)
        {
            using var writer = new BinaryWriter(File.Create(path));
            writer.Write7BitEncodedInt(entries.Length);
            foreach ((string name, Tensor tensor) in entries)
            {
                writer.Write(name);
                long[] header = [(long)tensor.dtype, tensor.dim(), .. tensor.shape];
                Array.ForEach(header, writer.Write7BitEncodedInt64);
                writer.Write(tensor.bytes);
            }
        }

        void Refused<T>(string words)
            where T : Exception
        {
            Assert.Contains(words, Assert.Throws<T>(() => AttentionWeights.LoadModel(after, path)).Message, StringComparison.Ordinal);
            Unchanged();
        }

        void Unchanged() => Assert.All(after.state_dict(), entry => Assert.Equal(0, Difference(untouched[entry.Key], entry.Value)));
    }

    [Fact]
    public void A_file_of_another_floating_point_type_is_converted_and_leaves_nothing_else()
    {
        using var scope = NewDisposeScope();
        manual_seed(19);
        var (before, after) = (Before(), After());
        after.to(ScalarType.BFloat16);
        var path = Path.GetTempFileName();
        try
        {
            before.save(path);
            AttentionWeights.LoadModel(after, path);
            Assert.Equal(0, LiveTensors.LeftBy(() => AttentionWeights.LoadModel(after, path)));
        }
        finally
        {
            File.Delete(path);
        }

        Assert.All(before.state_dict(), entry => Assert.Equal(0, Difference(entry.Value.to(ScalarType.BFloat16), after.state_dict()[entry.Key])));
    }

    [Fact]
    public void Null_and_integers_in_place_of_weights_are_refused()
    {
        using var scope = NewDisposeScope();
        var after = After();
        var wrong = Before().state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach());
        wrong["self_attn.out_proj.bias"] = zeros(Width, ScalarType.Int32);
        wrong["self_attn.in_proj_bias"] = null!;
        BadInput.IsRefused(() => AttentionWeights.LoadModel(after, wrong), "stateDict", "'self_attn.out_proj.bias' is of type Int32; the model's is Float32", "'self_attn.in_proj_bias' is null");
    }

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
