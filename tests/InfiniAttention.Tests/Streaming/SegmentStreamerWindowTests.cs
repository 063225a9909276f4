using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Forward, Prefill and Stream work window by window and report their progress.</summary>
public class SegmentStreamerWindowTests
{
    private const double Tolerance = 1e-12;

    private static readonly StreamCase Case =
        new(new LayerCase { Length = 30, Documents = true, Padding = true, Rotary = RotaryPairing.Halves, Update = MemoryUpdate.Delta }, 2, []);

    [Fact]
    public void Prefill_returns_the_output_of_the_last_token_alone()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, SegmentStreamer whole, Tensor x, TokenInfo? info) = Start();
        Tensor expected = whole.Forward(x, info).narrow(1, 29, 1);
        Difference.Close(expected, streamer.Prefill(x, info), Tolerance, "last output");
        Difference.Close(whole.Forward(x, info), streamer.Forward(x, info), Tolerance, "continuation");
    }

    [Fact]
    public void Stream_returns_windows_that_make_up_the_whole()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, SegmentStreamer whole, Tensor x, TokenInfo? info) = Start();
        streamer.Forward(x.narrow(1, 0, 3), info.Part(0, 3)).Dispose();
        Tensor[] windows = [.. streamer.Stream(x.narrow(1, 3, 27), info.Part(3, 27))];
        Assert.Equal([5, 8, 8, 6], windows.Select(w => w.shape[1])); // to the window's end first, then whole windows
        Difference.Close(whole.Forward(x, info).narrow(1, 3, 27), cat(windows, 1), Tolerance, "output");
        Assert.Equal(30, streamer.Position);
    }

    [Fact]
    public void Progress_reports_the_tokens_read_after_each_window()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, SegmentStreamer _, Tensor x, TokenInfo? info) = Start();
        var reports = new Reports();
        streamer.Prefill(x, info, reports).Dispose();
        Assert.Equal([8, 16, 24, 30], reports.Values);
        streamer.Reset();
        reports.Values.Clear();
        foreach (Tensor window in streamer.Stream(x, info, reports))
        {
            window.Dispose();
        }

        Assert.Equal([8, 16, 24, 30], reports.Values);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void An_abandoned_enumeration_leaves_the_stream_after_the_last_window_returned(int windows)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, SegmentStreamer whole, Tensor x, TokenInfo? info) = Start();
        foreach (Tensor _ in streamer.Stream(x, info).Take(windows))
        {
        }

        Assert.Null(SegmentStreamer.Current);
        Assert.Equal(8 * windows, streamer.Position);
        Tensor rest = streamer.Forward(x.narrow(1, 8 * windows, 30 - 8 * windows), info.Part(8 * windows, 30 - 8 * windows));
        Difference.Close(whole.Forward(x, info).narrow(1, 8 * windows, 30 - 8 * windows), rest, Tolerance, "the rest");
    }

    [Fact]
    public void An_exception_in_the_progress_callback_undoes_Prefill_and_leaves_Stream_after_the_last_window_returned()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, SegmentStreamer whole, Tensor x, TokenInfo? info) = Start();
        var cancel = new Reports { ThrowAt = 16 };
        Assert.Throws<OperationCanceledException>(() => streamer.Prefill(x, info, cancel));
        Assert.Equal(0, streamer.Position);
        var live = LiveTensors.Count;
        Assert.Throws<OperationCanceledException>(() =>
        {
            foreach (Tensor window in streamer.Stream(x, info, cancel))
            {
                window.Dispose();
                live = LiveTensors.Count;
            }
        });
        Assert.Equal(live, LiveTensors.Count);
        Assert.Equal(8, streamer.Position);
        Difference.Close(
            whole.Forward(x, info).narrow(1, 8, 22), streamer.Forward(x.narrow(1, 8, 22), info.Part(8, 22)), Tolerance, "the rest");
    }

    [Fact]
    public void Windows_of_any_size_give_the_same_output()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer _, SegmentStreamer whole, Tensor x, TokenInfo? info) = Start();
        Tensor expected = whole.Forward(x, info);
        foreach (long window in new long[] { 4, 8, 12, 16, 28, 32, 4000 })
        {
            using var streamer = new SegmentStreamer(Case.Model()) { WindowTokens = window };
            Difference.Close(expected, streamer.Forward(x, info), Tolerance, $"output in windows of {window}");
        }
    }

    [Fact]
    public void No_window_leaves_a_tensor_behind()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, SegmentStreamer _, Tensor x, TokenInfo? info) = Start();
        streamer.Prefill(x, info).Dispose();
        (Tensor whole, TokenInfo? wholeInfo) = (x.narrow(1, 0, 28), info.Part(0, 28)); // does not change the open segment's length
        Assert.Equal(0, LiveTensors.LeftBy(() =>
        {
            streamer.Prefill(whole, wholeInfo).Dispose();
            foreach (Tensor window in streamer.Stream(whole, wholeInfo))
            {
                window.Dispose();
            }
        }));
    }

    /// <summary>A model without dispose scopes leaves the temporaries of one window alive, not those of all windows.</summary>
    [Fact]
    public void Tensors_that_a_model_leaves_behind_are_freed_with_their_window()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new Careless();
        using var streamer = new SegmentStreamer(model) { WindowTokens = 4 };
        Tensor x = randn(1, 80, 8);
        Action[] calls = [() => streamer.Forward(x), () => streamer.Prefill(x), () => streamer.Stream(x).ToList().ForEach(window => window.Dispose())];
        foreach (Action call in calls)
        {
            model.Live.Clear();
            call();
            long growth = model.Live[^1] - model.Live[1];
            Assert.True(growth <= model.Live.Count, $"{growth} tensors more in window {model.Live.Count} than in the second");
        }
    }

    /// <summary>A streamer with windows of 8, one with the default window, and their input.</summary>
    private static (SegmentStreamer Windowed, SegmentStreamer Whole, Tensor Input, TokenInfo? Info) Start()
    {
        LayerStack model = Case.Model();
        return (new SegmentStreamer(model) { WindowTokens = 8 }, new SegmentStreamer(model), Case.Layer.Input().detach(), Case.Layer.Info());
    }

    private sealed class Reports : IProgress<long>
    {
        public List<long> Values { get; } = [];

        public long? ThrowAt { get; init; }

        public void Report(long value)
        {
            Values.Add(value);
            if (value == ThrowAt)
            {
                throw new OperationCanceledException();
            }
        }
    }

    /// <summary>Creates twenty tensors in each call and disposes of none.</summary>
    private sealed class Careless : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule layer = new(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });

        public Careless()
            : base(nameof(Careless)) => RegisterComponents();

        public List<long> Live { get; } = [];

        public override Tensor forward(Tensor x)
        {
            Live.Add(LiveTensors.Count);
            for (int i = 0; i < 20; i++)
            {
                x = x.tanh();
            }

            return layer.call(x);
        }
    }
}
