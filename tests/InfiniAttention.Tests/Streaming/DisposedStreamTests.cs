using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A streamer that is disposed of during its own call: the call throws, and the stream's tensors are freed.</summary>
public sealed class DisposedStreamTests : IDisposable
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 };

    private readonly TorchSharp.DisposeScope scope = NewDisposeScope();
    private readonly Acting model = new();
    private readonly SegmentStreamer streamer;
    private readonly Tensor x = randn(1, 12, 8);

    public DisposedStreamTests()
    {
        streamer = new SegmentStreamer(model) { WindowTokens = 4 };
        using var mode = no_grad();
        streamer.Forward(x.narrow(1, 0, 3)).Dispose();
    }

    public void Dispose() => scope.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_call_is_refused_if_the_model_disposes_of_its_streamer(bool afterLayers)
    {
        (model.Before, model.After) = (afterLayers ? null : streamer.Dispose, afterLayers ? streamer.Dispose : null);
        IsRefused(() => streamer.Forward(x));
    }

    [Fact]
    public void A_call_is_refused_if_the_model_disposes_of_its_streamer_inside_an_activation()
    {
        model.Before = streamer.Dispose;
        IsRefused(() =>
        {
            using var activation = streamer.Activate();
            model.call(x);
        });
    }

    /// <summary>Window 0 is the last whose loss is computed; after it the stream would move to its end.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public void Backpropagate_is_refused_if_the_loss_function_disposes_of_the_streamer(int window)
    {
        int losses = 0;
        IsRefused(() => streamer.Backpropagate(x, x, (y, target) =>
        {
            if (losses++ == 3 - window)
            {
                streamer.Dispose();
            }

            return (y - target).square().sum(-1);
        }));
        Assert.All(model.parameters(), parameter => Assert.Null(parameter.grad));
    }

    [Fact]
    public void Prefill_is_refused_if_the_progress_callback_disposes_of_the_streamer() =>
        IsRefused(() => streamer.Prefill(x, progress: new Disposing(streamer)));

    private void IsRefused(Action action)
    {
        using var mode = no_grad();
        long kept = streamer.StateBytes;
        Assert.True(kept > 0);
        long left = LiveTensors.LeftBy(() =>
        {
            using var inner = NewDisposeScope();
            Assert.Throws<ObjectDisposedException>(action);
        });
        Assert.True(left < 0, $"{left} tensors more than before; the stream's tensors should be freed");
        Assert.Equal(0, streamer.StateBytes);
        Assert.Equal(0, streamer.Position);

        // The whole state is freed: disposing of the same stream between calls frees as many tensors.
        using var ordinary = new SegmentStreamer(new Acting()) { WindowTokens = 4 };
        ordinary.Forward(x.narrow(1, 0, 3)).Dispose();
        Assert.Equal(LiveTensors.LeftBy(ordinary.Dispose), left);
    }

    private sealed class Disposing(SegmentStreamer streamer) : IProgress<long>
    {
        public void Report(long value) => streamer.Dispose();
    }

    /// <summary>Two layers, with actions before and after them.</summary>
    private sealed class Acting : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule first = new(Options);
        private readonly InfiniAttentionModule second = new(Options);

        public Acting()
            : base(nameof(Acting)) => RegisterComponents();

        public Action? Before { get; set; }

        public Action? After { get; set; }

        public override Tensor forward(Tensor x)
        {
            Before?.Invoke();
            using var inner = NewDisposeScope();
            var y = second.call(first.call(x)).MoveToOuterDisposeScope();
            After?.Invoke();
            return y;
        }
    }
}
