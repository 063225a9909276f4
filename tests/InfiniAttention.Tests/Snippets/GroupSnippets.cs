using InfiniAttention.Tests.Groups;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

public class GroupSnippets
{
    [Fact]
    public void A_layer_with_a_stretch_for_each_rank()
    {
        Tensor[] outputs = ThreadGroup.Run(3, group =>
        {
            var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
            group.BroadcastParameters(layer);
            var stretch = new Draw(group.Rank).Normal(1, 1, group.Rank == 2 ? 5 : 8, 8).to(ScalarType.Float32);

            #region group-layer
            var (output, state) = layer.ForwardFrom(null, stretch, group);          // (B, T of this rank, D)
            Loss(output).backward();                                                // on every rank: gradients pass between them
            group.SumGradients(layer);                                              // or AverageGradients, if each rank's loss is a mean
            #endregion

            Assert.Equal(group.Rank == 2 ? 21 : 8 * (group.Rank + 1), state.Position);
            return layer.Gate.grad!.DetachFromDisposeScope();
        });
        Assert.All(outputs, gradient => Assert.Equal(0, (gradient - outputs[0]).abs().max().item<float>()));
        Assert.NotEqual(0, outputs[0].abs().max().item<float>());
    }

    /// <summary>Run by each rank of <see cref="MpiTests.The_program_of_the_documentation_trains"/>.</summary>
    internal static int Train()
    {
        random.manual_seed(4);

        #region group-training
        return MpiSequenceGroup.Run(group =>
        {
            using var model = new LanguageModel();
            using var optimizer = optim.AdamW(model.parameters(), lr: 1e-3);
            group.BroadcastParameters(model);                                   // all begin with rank 0's weights

            using var streamer = new SegmentStreamer(model, group);
            foreach (var (input, target) in Sequences())                        // the same on every rank
            {
                optimizer.zero_grad();
                var loss = streamer.Backpropagate(input, target, Loss).Loss;    // each computes its share; all get the loss and gradients of the whole
                nn.utils.clip_grad_norm_(model.parameters(), 1);
                optimizer.step();
                streamer.Reset();
                if (group.Rank == 0)
                {
                    Console.WriteLine($"loss {loss:0.000}");
                }
            }

            return 0;
        });
        #endregion
    }

    private static IEnumerable<(Tensor Input, Tensor Target)> Sequences()
    {
        for (var step = 0; step < 20; step++)
        {
            var tokens = LanguageModel.Tokens(1, 301);
            yield return (tokens.narrow(1, 0, 300), tokens.narrow(1, 1, 300));
        }
    }

    private static Tensor Loss(Tensor output) => output.pow(2).sum();

    private static Tensor Loss(Tensor logits, Tensor target) => nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction: nn.Reduction.None);
}
