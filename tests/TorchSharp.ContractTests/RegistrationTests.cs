namespace TorchSharp.ContractTests;

public class RegistrationTests
{
    private sealed class Inner : nn.Module<Tensor, Tensor>
    {
        private readonly Linear projection = nn.Linear(3, 2);
        private readonly Parameter scale = nn.Parameter(ones(2));
        private readonly Tensor table = zeros(4);

        public Inner() : base("inner") => RegisterComponents();

        public override Tensor forward(Tensor input) => projection.call(input) * scale + table.sum();
    }

    private sealed class Outer : nn.Module<Tensor, Tensor>
    {
        private readonly Inner first = new();
        private readonly ModuleList<Linear> layers = nn.ModuleList(nn.Linear(2, 2), nn.Linear(2, 2, hasBias: false));
        private readonly Sequential tail = nn.Sequential(("act", nn.GELU()), ("out", nn.Linear(2, 1)));

        public Outer() : base("outer") => RegisterComponents();

        public Parameter Auto { get; } = nn.Parameter(ones(1));

        public override Tensor forward(Tensor input) => tail.call(layers[1].call(layers[0].call(first.call(input))));
    }

    [Fact]
    public void FieldsAreRegisteredByTheirNames()
    {
        using var module = new Outer();
        Assert.Equal(
            ["<Auto>k__BackingField", "first.projection.bias", "first.projection.weight", "first.scale", "first.table",
             "layers.0.bias", "layers.0.weight", "layers.1.weight", "tail.out.bias", "tail.out.weight"],
            module.state_dict().Keys.Order(StringComparer.Ordinal));
        Assert.Equal(["first.table"], module.named_buffers().Select(b => b.name));
        Assert.Equal(9, module.parameters().Count());
    }

    [Fact]
    public void ModulesAreListedParentsFirst()
    {
        using var module = new Outer();
        Assert.Equal(["first", "layers", "tail"], module.named_children().Select(m => m.name));
        Assert.Equal(["first", "layers", "tail", "first.projection", "layers.0", "layers.1", "tail.act", "tail.out"], module.named_modules().Select(m => m.name));
    }

    [Fact]
    public void ParametersAreFoundByTheirPath()
    {
        using var module = new Outer();
        Assert.Equal([2L, 3L], module.get_parameter("first.projection.weight")!.shape);
        Assert.Null(module.get_parameter("first.projection.nothing"));
        Assert.True(module.has_buffer("first.table"));
        Assert.False(module.has_parameter("first.table"));
    }

    [Fact]
    public void RegistrationRefusesWhatCannotBe()
    {
        using var module = new Inner();
        using var linear = nn.Linear(1, 1);
        Assert.Throws<InvalidOperationException>(() => module.register_parameter("scale", nn.Parameter(ones(1))));
        Assert.Throws<InvalidOperationException>(() => module.register_buffer("table", ones(1)));
        Assert.Throws<ArgumentException>(() => module.register_module("a.b", linear));
        Assert.Throws<ArgumentNullException>(() => module.register_buffer("none", null!));
    }

    [Fact]
    public void NonPersistentBuffersAreNotListed()
    {
        using var module = new Inner();
        using var buffer = ones(1);
        module.register_buffer("scratch", buffer, persistent: false);
        Assert.DoesNotContain("scratch", module.state_dict().Keys);
        Assert.DoesNotContain("scratch", module.named_buffers().Select(b => b.name));
        Assert.True(module.has_buffer("scratch"));
        module.Dispose();
        Assert.False(buffer.IsInvalid);
    }

    [Fact]
    public void TrainingReachesEveryModule()
    {
        using var module = new Outer();
        Assert.True(module.training);
        module.eval();
        Assert.All(module.modules(), m => Assert.False(m.training));
        module.train();
        Assert.All(module.modules(), m => Assert.True(m.training));
    }

    [Fact]
    public void ToMovesParametersBuffersAndGradients()
    {
        using var module = new Outer();
        using (var loss = module.call(ones(1, 3)).sum()) loss.backward();
        var moved = module.to(ScalarType.Float64);
        Assert.Same(module, moved);
        Assert.All(module.state_dict().Values, t => Assert.Equal(ScalarType.Float64, t.dtype));
        Assert.Equal(ScalarType.Float64, module.get_parameter("first.projection.weight")!.grad!.dtype);
        Assert.All(module.parameters(), p => Assert.True(p.requires_grad));
        using var input = ones(1, 3, dtype: ScalarType.Float64);
        Assert.Equal(ScalarType.Float64, module.call(input).dtype);
        Assert.Throws<ArgumentException>(() => module.to(ScalarType.Int64));
    }

    private sealed class GetOnly : nn.Module<Tensor, Tensor>
    {
        public GetOnly() : base("get only") => register_parameter("weight", nn.Parameter(ones(1)));

        public Tensor weight => get_parameter("weight")!;

        public override Tensor forward(Tensor input) => input * weight;
    }

    [Fact]
    public void AGetOnlyPropertyNamedLikeAParameterCannotBeMoved()
    {
        using var module = new GetOnly();
        Assert.Throws<ArgumentException>(() => module.to(ScalarType.Float64));
    }

    [Fact]
    public void DisposingOfAModuleDisposesOfItsTensors()
    {
        var module = new Outer();
        var tensors = module.state_dict().Values.ToList();
        Assert.Equal(10, tensors.Count);
        module.Dispose();
        Assert.All(tensors, t => Assert.True(t.IsInvalid));
        module.Dispose();
    }

    [Fact]
    public void LinearKeepsItsWeightsOutOfTheScopeTheyWereMadeIn()
    {
        Linear linear;
        Inner inner;
        using (NewDisposeScope()) {
            linear = nn.Linear(2, 2);
            inner = new Inner();
        }
        Assert.False(linear.weight.IsInvalid);
        Assert.True(inner.get_parameter("scale")!.IsInvalid);
        linear.Dispose();
    }

    [Fact]
    public void HooksRunWithCallAndNotWithForward()
    {
        using var linear = nn.Linear(2, 2);
        var seen = 0;
        var remover = linear.register_forward_hook((_, _, output) => { seen++; return output; });
        linear.register_forward_pre_hook((_, input) => { seen += 10; return input; });
        using var input = ones(1, 2);
        linear.forward(input).Dispose();
        Assert.Equal(0, seen);
        linear.call(input).Dispose();
        Assert.Equal(11, seen);
        remover.remove();
        linear.call(input).Dispose();
        Assert.Equal(21, seen);
    }

    [Fact]
    public void MultiheadAttentionHoldsItsWeightsUnderFourNames()
    {
        using var attention = nn.MultiheadAttention(4, 2);
        Assert.Equal(["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"], attention.state_dict().Keys);
        Assert.Equal([12L, 4L], attention.get_parameter("in_proj_weight")!.shape);
        Assert.Empty(attention.named_modules());
        using var wide = nn.MultiheadAttention(4, 2, bias: false, kdim: 3, vdim: 5);
        Assert.Equal(["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"], wide.state_dict().Keys);
    }

    [Fact]
    public void AnEmbeddingGivesItsWeightAnewEachTime()
    {
        using var embedding = nn.Embedding(5, 3, padding_idx: 1);
        using var first = embedding.weight!;
        using var second = embedding.weight!;
        Assert.NotSame(first, second);
        Near.Equal(first, second);
        Near.Equal([0, 0, 0], first[1]);
        using var ids = torch.tensor(new long[] { 4, 1 });
        Near.Equal(stack([first[4], first[1]]), embedding.call(ids));
    }

    [Fact]
    public void LoadStateDictCopiesAndNamesWhatIsMissing()
    {
        using var source = new Inner();
        using var target = new Inner();
        var state = source.state_dict();
        target.load_state_dict(state);
        foreach (var (key, tensor) in target.state_dict()) Near.Equal(state[key], tensor);
        state.Remove("scale");
        state["extra"] = ones(1);
        Assert.Throws<InvalidOperationException>(() => target.load_state_dict(state));
        var (missing, unexpected) = target.load_state_dict(state, strict: false);
        Assert.Equal(["scale"], missing);
        Assert.Equal(["extra"], unexpected);
    }
}
