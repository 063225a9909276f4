using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A sequence spread over the ranks of a group against the same sequence in one process.</summary>
public class StretchTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-12;

    [Fact]
    public void Outputs_final_state_and_all_gradients_are_those_of_one_process() =>
        Property.Holds(output, SpreadCase.Any, 250, 20, (spread, difference) =>
            SpreadCase.Joined(ThreadGroup.Run(spread.Size, spread.OfRank)).CompareTo(LayerRun.OfLibrary(spread.Case), Tolerance, difference));

    [Fact]
    public void A_state_before_the_sequence_is_continued_and_gets_its_gradient() =>
        Property.Holds(output, SpreadCase.Any, 100, 21, (spread, difference) =>
        {
            using InfiniAttentionModule prefix = spread.Case.Layer();
            Tensor before = new Draw(spread.Case.Seed + 9).Normal(1, spread.Case.Batch, 2L * spread.Case.Segment, spread.Case.EmbedDim);
            using MemoryState start = prefix.ForwardFrom(null, before).State.Detach();
            SpreadCase.Joined(ThreadGroup.Run(spread.Size, group => spread.OfRank(group, start)))
                .CompareTo(spread.Alone(start), Tolerance, difference);
        });
}
