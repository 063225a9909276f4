using InfiniAttention.Tests.Snippets;
using TorchSharp;
using TorchSharp.Modules;
using static InfiniAttention.Tests.Conversion.ConversionTests;
using static InfiniAttention.Tests.Conversion.ReplacedAttention;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>The old weights of a model, loaded after its attention was replaced.</summary>
public class LoadModelTests
{
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

    private static InfiniMultiheadAttention AttentionOf(nn.Module model) => model.modules().OfType<InfiniMultiheadAttention>().Single();

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
}
