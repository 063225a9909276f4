using Xunit.Abstractions;

namespace InfiniAttention.Tests.Groups;

/// <summary>A stream that the ranks of a group read together against the stream of one process.</summary>
public class SharedStreamTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-12;

    [Fact]
    public void Backpropagate_gives_every_rank_the_loss_gradients_and_state_of_one_process() =>
        Property.Holds(output, SharedCase.Any, 120, 30, (any, difference) =>
        {
            StreamOutcome alone = any.Backpropagated(null);
            foreach (StreamOutcome rank in ThreadGroup.Run(any.Size, any.Backpropagated))
            {
                rank.CompareTo(alone, Tolerance, difference);
            }
        });

    [Fact]
    public void Forward_Stream_and_Prefill_give_every_rank_the_outputs_and_state_of_one_process() =>
        Property.Holds(output, SharedCase.Any, 120, 31, (any, difference) =>
        {
            StreamOutcome[] alone = any.Read(null);
            foreach (StreamOutcome[] rank in ThreadGroup.Run(any.Size, any.Read))
            {
                foreach ((StreamOutcome expected, StreamOutcome actual) in alone.Zip(rank))
                {
                    actual.CompareTo(expected, Tolerance, difference);
                }
            }
        });
}
