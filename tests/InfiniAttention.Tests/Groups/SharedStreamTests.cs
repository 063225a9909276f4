using FsCheck;
using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A stream that the ranks of a group read together against the stream of one process.</summary>
public class SharedStreamTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-12;

    private static readonly Arbitrary<Shared> Any = Arb.From(
        from layer in LayerCase.Generator
        from depth in Gen.Choose(1, 2)
        from length in Gen.Choose(1, 14 * layer.Segment)
        from window in Gen.Choose(1, 3 * layer.Segment)
        from before in Gen.Choose(0, 5)
        from size in Gen.Choose(1, 4)
        from training in Gen.Elements(false, true)
        select new Shared(layer with { Length = length }, depth, window, before, size, training));

    [Fact]
    public void Backpropagate_gives_every_rank_the_loss_gradients_and_state_of_one_process() =>
        Property.Holds(output, Any, 120, 30, (any, difference) =>
        {
            Outcome alone = Backpropagated(any, null);
            foreach (Outcome rank in ThreadGroup.Run(any.Size, group => Backpropagated(any, group)))
            {
                rank.CompareTo(alone, difference);
            }
        });

    [Fact]
    public void Forward_Stream_and_Prefill_give_every_rank_the_outputs_and_state_of_one_process() =>
        Property.Holds(output, Any, 120, 31, (any, difference) =>
        {
            Outcome[] alone = Read(any, null);
            foreach (Outcome[] rank in ThreadGroup.Run(any.Size, group => Read(any, group)))
            {
                foreach ((Outcome expected, Outcome actual) in alone.Zip(rank))
                {
                    actual.CompareTo(expected, difference);
                }
            }
        });

    private static Outcome Backpropagated(Shared any, ThreadGroup? group)
    {
        LayerStack model = any.Model();
        using SegmentStreamer streamer = any.Start(model, group);
        Tensor target = (any.Layer with { Seed = any.Layer.Seed + 100 }).Input().detach();
        BackpropagationResult result = streamer.Backpropagate(any.Input, target, SquaredError, info: any.Info);
        Assert.Equal(any.Before + any.Layer.Length, streamer.Position);
        Assert.All(streamer.States.Current, state => Assert.False(state!.Memory.requires_grad));
        Assert.Equal((long)any.Layer.Batch * any.Layer.Length, result.Count);
        var found = model.named_parameters().ToDictionary(p => p.name, p => (p.parameter.grad ?? zeros_like(p.parameter)).DetachFromDisposeScope());
        found["loss"] = tensor(result.Loss).DetachFromDisposeScope();
        return new(found, SafeTensors.Of(streamer));
    }

    private static Outcome[] Read(Shared any, ThreadGroup? group)
    {
        using var noGrad = no_grad();
        LayerStack model = any.Model();
        return [.. new Func<SegmentStreamer, Tensor>[]
        {
            streamer => streamer.Forward(any.Input, any.Info),
            streamer => cat([.. streamer.Stream(any.Input, any.Info)], 1),
            streamer => streamer.Prefill(any.Input, any.Info),
        }.Select(read =>
        {
            using SegmentStreamer streamer = any.Start(model, group);
            Tensor outputs = read(streamer).DetachFromDisposeScope();
            Assert.Equal(any.Before + any.Layer.Length, streamer.Position);
            return new Outcome(new() { ["outputs"] = outputs }, SafeTensors.Of(streamer));
        })];
    }

    private static Tensor SquaredError(Tensor y, Tensor target) => (y - target).pow(2).sum(-1);

    private sealed record Shared(LayerCase Layer, int Depth, int Window, int Before, int Size, bool Training)
    {
        public Tensor Input => Layer.Input().detach();

        public TokenInfo? Info => Layer.Info() is not { } info ? null
            : new() { KeyPaddingMask = info.KeyPaddingMask, DocumentStarts = info.DocumentStarts, WriteWeights = info.WriteWeights?.detach() };

        public LayerStack Model()
        {
            var model = new LayerStack(Layer, Depth);
            model.train(Training);
            return model;
        }

        public SegmentStreamer Start(LayerStack model, ThreadGroup? group)
        {
            SegmentStreamer streamer = group is null ? new(model) : new(model, group);
            streamer.WindowTokens = Window;
            if (Before > 0)
            {
                using var mode = no_grad();
                _ = streamer.Forward((Layer with { Seed = Layer.Seed + 200, Length = Before }).Input().detach());
            }

            return streamer;
        }
    }

    private sealed record Outcome(Dictionary<string, Tensor> Tensors, SafeTensors State)
    {
        public void CompareTo(Outcome expected, Difference difference)
        {
            foreach ((string name, Tensor tensor) in expected.Tensors)
            {
                difference.Add(tensor, Tensors[name], Tolerance, name);
            }

            State.CompareTo(expected.State, Tolerance, difference);
        }
    }
}
