using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

public class ParameterGroupTests
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 };

    [Fact]
    public void The_two_groups_together_hold_every_parameter_once()
    {
        using var scope = NewDisposeScope();
        var shared = new InfiniAttentionModule(Options);
        var model = nn.Sequential(
            ("first", shared),
            ("inner", nn.Sequential(("norm", nn.LayerNorm(8)), ("second", new InfiniAttentionModule(Options)))),
            ("again", shared));

        var gates = InfiniAttentionModule.GateParameters(model);
        var others = InfiniAttentionModule.OtherParameters(model);

        Assert.Equal(2, gates.Count);
        Assert.All(gates, gate => Assert.Equal([2], gate.shape));
        Assert.Equal(10, others.Count);
        Assert.Equal(12, gates.Concat(others).DistinctBy(parameter => parameter.Handle).Count());
    }

    [Fact]
    public void A_single_layer_is_a_model_too()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        Assert.Same(layer.Gate, Assert.Single(InfiniAttentionModule.GateParameters(layer)));
        Assert.Equal(4, InfiniAttentionModule.OtherParameters(layer).Count);
    }

    [Fact]
    public void A_model_without_a_registered_layer_is_refused()
    {
        using var scope = NewDisposeScope();
        Assert.Contains("RegisterComponents", Assert.Throws<ArgumentException>(() => InfiniAttentionModule.GateParameters(nn.Linear(4, 4))).Message, StringComparison.Ordinal);
        Assert.Contains("ModuleList", Assert.Throws<ArgumentException>(() => InfiniAttentionModule.OtherParameters(nn.Linear(4, 4))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Gates_can_have_their_own_learning_rate_without_weight_decay()
    {
        using var scope = NewDisposeScope();
        var model = new InfiniMultiheadAttention(8, 2, 4, gateInit: 2, causalWithoutMask: true);
        var weight = model.get_parameter("in_proj_weight")!;
        var weightBefore = weight.detach().clone();
        var optimizer = optim.AdamW(
        [
            new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(model), new AdamW.Options { LearningRate = 1e-2, weight_decay = 0 }),
            new AdamW.ParamGroup(InfiniAttentionModule.OtherParameters(model), new AdamW.Options { LearningRate = 1e-4, weight_decay = 0.1 }),
        ]);

        var x = randn(12, 1, 8);
        model.call(x, x, x, need_weights: false).Item1.square().sum().backward();
        optimizer.step();

        // The first step of Adam is the learning rate, in the direction of the gradient.
        Assert.True(((model.Gate.detach() - 2).abs() - 1e-2).abs().max().item<float>() < 1e-4);
        Assert.True((weight.detach() - weightBefore).abs().max().item<float>() < 2e-4);
    }
}
