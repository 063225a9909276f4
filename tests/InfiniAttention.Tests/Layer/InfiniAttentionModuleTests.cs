using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The layer as a TorchSharp module: types, devices, state dictionaries, scopes, training.</summary>
public class InfiniAttentionModuleTests
{
    private static readonly InfiniAttentionOptions Options = new()
    {
        EmbedDim = 8,
        NumHeads = 4,
        NumKeyValueHeads = 2,
        SegmentLength = 4,
        Bias = true,
        Rotary = new RotaryOptions(),
    };

    private static readonly string[] Names =
    [
        "gate", "k_proj.bias", "k_proj.weight", "o_proj.bias", "o_proj.weight", "q_proj.bias", "q_proj.weight", "v_proj.bias",
        "v_proj.weight",
    ];

    /// <summary>The tests below run on a layer converted to a type and on one built in it.</summary>
    public static TheoryData<ScalarType, bool> TypesAndWays
    {
        get
        {
            var data = new TheoryData<ScalarType, bool>();
            foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.Float64, ScalarType.BFloat16 })
            {
                data.Add(type, false);
                data.Add(type, true);
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void It_takes_any_floating_type_and_keeps_its_memory_in_float32_or_better(ScalarType type, bool builtSo)
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Make(type, builtSo);
        Assert.All(layer.named_parameters(), p => Assert.Equal(type, p.parameter.dtype));
        Tensor x = new Draw(1).Normal(1, 2, 9, 8).to_type(type);
        (Tensor y, MemoryState state) = layer.ForwardFrom(null, x);
        Assert.Equal(type, y.dtype);
        Assert.Equal(x.shape, y.shape);
        ScalarType memory = type == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;
        Assert.Equal(memory, state.Memory.dtype);
        Assert.Equal(memory, state.Normalizer.dtype);
        Assert.Equal(type, layer.ForwardFrom(state, x).Output.dtype);
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void Moving_it_to_its_device_changes_nothing(ScalarType type, bool builtSo)
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Make(type, builtSo);
        Tensor x = new Draw(1).Normal(1, 2, 9, 8).to_type(type);
        Tensor before = layer.forward(x);
        layer.to(CPU);
        Difference.Close(before, layer.forward(x), 0, "output");
        layer.to(DeviceType.CPU, 0);
        Difference.Close(before, layer.forward(x), 0, "output");
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void Its_state_dictionary_holds_the_weights_by_their_usual_names(ScalarType type, bool builtSo)
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Make(type, builtSo);
        Assert.Equal(Names, layer.state_dict().Keys.Order(StringComparer.Ordinal));
        Assert.Equal(Names, layer.named_parameters().Select(p => p.name).Order(StringComparer.Ordinal));
        Assert.Empty(layer.named_buffers());
        var bare = new InfiniAttentionModule(Options with { Bias = false });
        Assert.Equal(Names.Where(n => !n.EndsWith(".bias", StringComparison.Ordinal)), bare.state_dict().Keys.Order(StringComparer.Ordinal));
        _ = layer.forward(new Draw(1).Normal(1, 2, 9, 8).to_type(type));
        Assert.Equal(Names, layer.state_dict().Keys.Order(StringComparer.Ordinal));
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void Saving_and_loading_gives_the_same_layer(ScalarType type, bool builtSo)
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Make(type, builtSo), other = Make(type, !builtSo);
        Tensor x = new Draw(1).Normal(1, 2, 9, 8).to_type(type);
        string file = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());
        try
        {
            layer.save(file);
            other.load(file);
        }
        finally
        {
            File.Delete(file);
        }

        Difference.Close(layer.forward(x), other.forward(x), 0, "output after load");
        var third = Make(type, builtSo);
        third.load_state_dict(layer.state_dict());
        Difference.Close(layer.forward(x), third.forward(x), 0, "output after load_state_dict");
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void A_layer_built_in_a_dispose_scope_outlives_it(ScalarType type, bool builtSo)
    {
        using var outer = NewDisposeScope();
        Tensor x = new Draw(1).Normal(1, 2, 9, 8).to_type(type);
        InfiniAttentionModule layer;
        using (NewDisposeScope())
        {
            layer = Make(type, builtSo);
        }

        Assert.Equal([2, 9, 8], layer.forward(x).shape);
        Assert.Equal(Names.Length, layer.parameters().Count());
        layer.Dispose();
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void A_result_belongs_to_the_scope_of_the_caller(ScalarType type, bool builtSo)
    {
        using var outer = NewDisposeScope();
        InfiniAttentionModule layer = Make(type, builtSo);
        Tensor x = new Draw(1).Normal(1, 2, 9, 8).to_type(type);
        Tensor dies, stays;
        using (NewDisposeScope())
        {
            dies = layer.forward(x);
            stays = layer.forward(x).MoveToOuterDisposeScope();
            Assert.Equal([2, 9, 8], dies.shape);
        }

        Assert.True(dies.IsInvalid);
        Assert.Equal([2, 9, 8], stays.shape);
        Assert.False(x.IsInvalid);
    }

    [Theory]
    [MemberData(nameof(TypesAndWays))]
    public void As_a_field_of_another_module_it_is_registered_moved_and_saved_with_it(ScalarType type, bool builtSo)
    {
        using var scope = NewDisposeScope();
        var block = new Block(builtSo ? new InfiniAttentionModule(Options, CPU, type) : new InfiniAttentionModule(Options));
        block.to(type);
        Assert.Equal(Names.Select(n => "attention." + n), block.state_dict().Keys.Order(StringComparer.Ordinal));
        Assert.All(block.parameters(), p => Assert.Equal(type, p.dtype));
        Tensor x = new Draw(1).Normal(1, 2, 9, 8).to_type(type);
        Assert.Equal(type, block.call(x).dtype);
        block.train();
        Assert.True(block.Attention.training);
        block.eval();
        Assert.False(block.Attention.training);
    }

    [Fact]
    public void A_layer_converted_to_a_type_equals_one_built_in_it()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule moved = Make(ScalarType.Float64, builtSo: false), built = Make(ScalarType.Float64, builtSo: true);
        built.load_state_dict(moved.state_dict());
        Tensor x = new Draw(1).Normal(1, 2, 21, 8);
        Difference.Close(built.forward(x), moved.forward(x), 0, "output");
        moved.to(ScalarType.Float32);
        Difference.Close(built.forward(x), moved.forward(x.to_type(ScalarType.Float32)), 1e-5, "output in float32");
    }

    [Theory]
    [InlineData(0, 0.5)]
    [InlineData(-4, 0.01798620996209156)]
    [InlineData(2, 0.8807970779778823)]
    public void The_gate_starts_where_the_options_say(double init, double open)
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options with { GateInit = init }, dtype: ScalarType.Float64);
        Difference.Close(full([4], open, dtype: ScalarType.Float64), layer.Gate.sigmoid(), 1e-12, "sigmoid of the gate");
        Assert.True(layer.Gate.requires_grad);
        layer.to(ScalarType.Float32);
        Assert.Equal(ScalarType.Float32, layer.Gate.dtype);
        Assert.Same(layer.Gate, layer.named_parameters().Single(p => p.name == "gate").parameter);
    }

    [Fact]
    public void Call_and_forward_and_ForwardFrom_agree()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Make(ScalarType.Float64, builtSo: true);
        Tensor x = new Draw(1).Normal(1, 2, 9, 8);
        Tensor y = layer.forward(x);
        Difference.Close(y, layer.call(x), 0, "call");
        Difference.Close(y, layer.forward(x, null), 0, "forward without info");
        Difference.Close(y, layer.ForwardFrom(null, x).Output, 0, "ForwardFrom");
    }

    private static InfiniAttentionModule Make(ScalarType type, bool builtSo)
    {
        manual_seed(5);
        if (builtSo)
        {
            return new InfiniAttentionModule(Options, CPU, type);
        }

        var layer = new InfiniAttentionModule(Options);
        layer.to(type);
        return layer;
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule attention;

        public Block(InfiniAttentionModule attention)
            : base(nameof(Block))
        {
            this.attention = attention;
            RegisterComponents();
        }

        public InfiniAttentionModule Attention => attention;

        public override Tensor forward(Tensor x) => x + attention.call(x);
    }
}
