using FsCheck;
using FsCheck.Fluent;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A model and an input that the ranks of a group read together.</summary>
internal sealed record SharedCase(LayerCase Layer, int Depth, int Window, int Before, int Size, bool Training)
{
    public static Arbitrary<SharedCase> Any { get; } = Arb.From(from size in Gen.Choose(1, 4) from one in OfSize(size) select one);

    private Tensor Input => Layer.Input().detach();

    private TokenInfo? Info => Layer.Info() is not { } info ? null
        : new() { KeyPaddingMask = info.KeyPaddingMask, DocumentStarts = info.DocumentStarts, WriteWeights = info.WriteWeights?.detach() };

    public static Gen<SharedCase> OfSize(int size) =>
        from layer in LayerCase.Generator
        from depth in Gen.Choose(1, 2)
        from length in Gen.Choose(1, 14 * layer.Segment)
        from window in Gen.Choose(1, 3 * layer.Segment)
        from before in Gen.Choose(0, 5)
        from training in Gen.Elements(false, true)
        select new SharedCase(layer with { Length = length }, depth, window, before, size, training);

    /// <summary>Loss, gradients and state after back-propagation; group is null for one process.</summary>
    public StreamOutcome Backpropagated(ISequenceGroup? group)
    {
        LayerStack model = Model();
        using SegmentStreamer streamer = Start(model, group);
        Tensor target = (Layer with { Seed = Layer.Seed + 100 }).Input().detach();
        BackpropagationResult result = streamer.Backpropagate(Input, target, SquaredError, info: Info);
        Assert.Equal(Before + Layer.Length, streamer.Position);
        Assert.All(streamer.States.Current, state => Assert.False(state!.Memory.requires_grad));
        Assert.Equal((long)Layer.Batch * Layer.Length, result.Count);
        var found = model.named_parameters().ToDictionary(p => p.name, p => (p.parameter.grad ?? zeros_like(p.parameter)).DetachFromDisposeScope());
        found["loss"] = tensor(result.Loss).DetachFromDisposeScope();
        return new(found, SafeTensors.Of(streamer));
    }

    /// <summary>Outputs and state after Forward, Stream and Prefill.</summary>
    public StreamOutcome[] Read(ISequenceGroup? group)
    {
        using var noGrad = no_grad();
        LayerStack model = Model();
        return [.. new Func<SegmentStreamer, Tensor>[]
        {
            streamer => streamer.Forward(Input, Info),
            streamer => cat([.. streamer.Stream(Input, Info)], 1),
            streamer => streamer.Prefill(Input, Info),
        }.Select(read =>
        {
            using SegmentStreamer streamer = Start(model, group);
            Tensor outputs = read(streamer).DetachFromDisposeScope();
            Assert.Equal(Before + Layer.Length, streamer.Position);
            return new StreamOutcome(new() { ["outputs"] = outputs }, SafeTensors.Of(streamer));
        })];
    }

    private static Tensor SquaredError(Tensor y, Tensor target) => (y - target).pow(2).sum(-1);

    private LayerStack Model()
    {
        var model = new LayerStack(Layer, Depth);
        model.train(Training);
        return model;
    }

    private SegmentStreamer Start(LayerStack model, ISequenceGroup? group)
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

/// <summary>What came out of a call of a stream.</summary>
internal sealed record StreamOutcome(Dictionary<string, Tensor> Tensors, SafeTensors State)
{
    public void CompareTo(StreamOutcome expected, double tolerance, Difference difference)
    {
        foreach ((string name, Tensor tensor) in expected.Tensors)
        {
            difference.Add(tensor, Tensors[name], tolerance, name);
        }

        State.CompareTo(expected.State, tolerance, difference);
    }
}
