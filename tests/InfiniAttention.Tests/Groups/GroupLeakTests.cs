using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>What a group's calls leave alive, with gradients that only another rank has and with exchanges that fail.</summary>
public class GroupLeakTests
{
    [Fact]
    public void Gradients_that_only_another_rank_has_leave_no_managed_tensor()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = new LayerCase { Seed = 70 }.Layer();
        var group = new StubGroup(x => HostVector.Elements<double>(x).Fill(1));
        Assert.Equal(0, LiveTensors.LeftBy(() => group.SumGradients(layer)));
        Assert.All(layer.parameters(), parameter => Assert.All(Difference.Numbers(parameter.grad!), number => Assert.Equal(1, number)));
    }

    [Fact]
    public void An_exchange_that_fails_leaves_nothing_of_the_open_segment()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var one = new LayerCase { Seed = 71, Length = 3, Segment = 4, LocalSegments = 2, Rotary = RotaryPairing.Halves };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        var group = StubGroup.OfEquals(lengthOfOther: 4);
        _ = Record.Exception(() => layer.ForwardFrom(null, x, group)); // makes the tables of the rotation
        Assert.Equal(0, LiveTensors.LeftBy(() => Assert.Equal(StubGroup.Lost, Assert.Throws<IOException>(() => layer.ForwardFrom(null, x, group)).Message)));
    }
}
