using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>What the ranks of a stream must have in common, and what they refuse, on every rank and before anything is computed.</summary>
public class SharedStreamRefusalTests
{
    private static readonly LayerCase Case = new() { Seed = 80, Batch = 1, Length = 16, Segment = 2 };

    [Theory]
    [InlineData("input")]
    [InlineData("write weights")]
    public void Reading_is_refused_if_an_input_requires_a_gradient_although_the_model_is_frozen(string what) => ThreadGroup.Run(2, group =>
    {
        using var scope = NewDisposeScope();
        using SegmentStreamer streamer = Start(group);
        Tensor input = Case.Input().detach().requires_grad_(what == "input");
        var info = new TokenInfo { WriteWeights = ones(1, 16, ScalarType.Float64).requires_grad_(what == "write weights") };
        foreach (Action call in new Action[] { () => streamer.Forward(input, info), () => streamer.Prefill(input, info), () => streamer.Stream(input, info) })
        {
            Assert.Contains("Gradients are on", Assert.Throws<InvalidOperationException>(call).Message, StringComparison.Ordinal);
        }

        using var mode = no_grad();
        _ = streamer.Forward(input, info);
        Assert.Equal(16, streamer.Position);
        return true;
    });

    [Theory]
    [InlineData("window")]
    [InlineData("training")]
    [InlineData("gradient mode")]
    [InlineData("target")]
    [InlineData("reduction")]
    [InlineData("ignoreIndex")]
    public void A_difference_between_the_ranks_is_an_error_on_every_rank(string what) => ThreadGroup.Run(2, group =>
    {
        using var scope = NewDisposeScope();
        bool isOther = group.Rank == 1;
        using SegmentStreamer streamer = Start(group, isTraining: isOther && what == "training");
        streamer.WindowTokens = isOther && what == "window" ? 4 : 2;
        Tensor input = Case.Input().detach(), target = zeros(1, 16, ScalarType.Int64);
        target[0, 3] = isOther && what == "target" ? 1 : 0;
        using var mode = set_grad_enabled(!(isOther && what == "gradient mode"));
        Exception error = Assert.Throws<InvalidOperationException>(() =>
        {
            if (what is "target" or "reduction" or "ignoreIndex")
            {
                streamer.Backpropagate(
                    input, target, (y, _) => y.sum(-1), isOther && what == "reduction" ? LossReduction.Sum : LossReduction.Mean, isOther && what == "ignoreIndex" ? -1 : -100);
            }
            else
            {
                streamer.Forward(input);
            }
        });
        Assert.Contains("Rank 1 of the group has other", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, streamer.Position);
        return true;
    });

    private static SegmentStreamer Start(ISequenceGroup group, bool isTraining = false)
    {
        var model = new LayerStack(Case, 1);
        foreach (var parameter in model.parameters())
        {
            parameter.requires_grad = false;
        }

        model.train(isTraining);
        return new(model, group) { WindowTokens = 2 };
    }
}
