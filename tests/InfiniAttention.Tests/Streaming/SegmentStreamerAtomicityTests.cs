using System.Globalization;
using System.IO.Compression;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A call that is refused or fails leaves the stream as it was and no tensor behind; inference mode and cultures do not break a stream.</summary>
public sealed class SegmentStreamerAtomicityTests : IDisposable
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 };

    private readonly DisposeScope scope = NewDisposeScope();

    public SegmentStreamerAtomicityTests() => random.manual_seed(1);

    public void Dispose() => scope.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(3)]
    public void A_loss_function_that_throws_leaves_no_tensor_alive(int window)
    {
        using var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer) { WindowTokens = 4 };
        var x = randn(1, 16, 8);
        var before = LiveTensors.Count;
        var calls = 0;

        Assert.Throws<TimeoutException>(() => streamer.Backpropagate(
            x, x, (output, target) => calls++ == window ? throw new TimeoutException() : (output - target).pow(2).sum(), LossReduction.Sum));

        Assert.Equal(window + 1, calls);
        Assert.Equal(0, LiveTensors.Count - before);
        Assert.Equal(0, streamer.Position);
    }

    [Fact]
    public void A_refused_call_of_a_model_that_uses_its_layer_twice_leaves_the_stream_as_it_was()
    {
        using var noGrad = no_grad();
        using var model = new Repeating();
        using var streamer = new SegmentStreamer(model);
        streamer.Forward(randn(1, 3, 8));
        using var undisturbed = streamer.Fork();
        var x = randn(1, 1, 8);

        model.Times = 2;
        Assert.Contains("'layer' ran again", Assert.Throws<InvalidOperationException>(() => streamer.Forward(x)).Message);
        Assert.Throws<InvalidOperationException>(() => streamer.Prefill(x));
        Assert.Throws<InvalidOperationException>(() => streamer.Stream(x).ToList());
        model.Times = 1;

        Assert.Equal(3, streamer.Position);
        Assert.Equal(0, (streamer.Forward(x) - undisturbed.Forward(x)).abs().max().item<float>());
    }

    [Fact]
    public void A_loss_function_may_not_continue_the_stream()
    {
        using var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer);
        var x = randn(1, 4, 8);

        var error = Assert.Throws<InvalidOperationException>(() => streamer.Backpropagate(x, x, (output, _) => output.sum() + streamer.Forward(x).sum(), LossReduction.Sum));

        Assert.Contains("in the middle of a call", error.Message);
        Assert.Equal(0, streamer.Position);
    }

    [Fact]
    public void A_loss_function_may_not_change_the_stream_or_call_its_model_on_it()
    {
        using var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer) { WindowTokens = 4 };
        var x = randn(1, 12, 8);
        using (no_grad())
        {
            streamer.Forward(x.narrow(1, 0, 3));
        }

        using var undisturbed = streamer.Fork();
        Action[] changes = [streamer.Detach, streamer.Reset, () => streamer.SelectRows(zeros(1, int64)), () => streamer.To(CPU), () => layer.call(x)];
        using var activation = streamer.Activate();
        foreach (var change in changes)
        {
            var error = Assert.Throws<InvalidOperationException>(() => streamer.Backpropagate(x, x, (output, target) =>
            {
                change();
                return (output - target).pow(2).sum();
            }, LossReduction.Sum));
            Assert.Contains("in the middle of a call", error.Message);
            Assert.Equal(3, streamer.Position);
        }

        activation.Dispose();
        Assert.Equal(0, (streamer.Forward(x) - undisturbed.Forward(x)).abs().max().item<float>());
    }

    [Fact]
    public void A_model_may_not_change_its_stream()
    {
        using var noGrad = no_grad();
        using var model = new Repeating();
        using var streamer = new SegmentStreamer(model);
        streamer.Forward(randn(1, 3, 8));
        using var undisturbed = streamer.Fork();
        var x = randn(1, 5, 8);

        model.First = () => SegmentStreamer.Current!.Reset();
        Assert.Contains("in the middle of a call", Assert.Throws<InvalidOperationException>(() => streamer.Forward(x)).Message);
        model.First = null;

        Assert.Equal(3, streamer.Position);
        Assert.Equal(0, (streamer.Forward(x) - undisturbed.Forward(x)).abs().max().item<float>());
    }

    [Fact]
    public void A_progress_callback_may_save_what_was_read_so_far()
    {
        using var noGrad = no_grad();
        using var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer) { WindowTokens = 4 };
        using var restored = new SegmentStreamer(layer);
        var x = randn(1, 10, 8);
        using var file = new MemoryStream();

        var expected = streamer.Prefill(x, progress: new Saving(() =>
        {
            file.SetLength(0);
            if (streamer.Position == 8)
            {
                streamer.Save(file);
                file.Position = 0;
                restored.Load(file);
            }
        }));

        Assert.Equal(8, restored.Position);
        Assert.Equal(0, (expected - restored.Prefill(x.narrow(1, 8, 2))).abs().max().item<float>());
    }

    [Fact]
    public void A_stream_read_in_inference_mode_can_be_continued_outside_it()
    {
        using var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer);
        using (inference_mode())
        {
            streamer.Forward(randn(1, 6, 8));
            streamer.SelectRows(tensor(new long[] { 0, 0 }));
        }

        using (no_grad())
        {
            streamer.Forward(randn(2, 1, 8));
        }

        var x = randn(2, 9, 8);
        using var fork = streamer.Fork();
        fork.Forward(x).pow(2).sum().backward();
        var expected = layer.Gate.grad!.clone();
        layer.zero_grad();
        streamer.Backpropagate(x, zeros_like(x), (output, target) => (output - target).pow(2).sum(), LossReduction.Sum);
        Assert.True(expected.allclose(layer.Gate.grad!, 1e-4, 1e-5));
    }

    [Fact]
    public void Backpropagate_in_inference_mode_is_refused()
    {
        using var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer);
        using var inference = inference_mode();
        var x = randn(1, 4, 8);

        var error = Assert.Throws<InvalidOperationException>(() => streamer.Backpropagate(x, x, (output, target) => (output - target).sum(), LossReduction.Sum));
        Assert.Contains("inference mode", error.Message);
    }

    [Fact]
    public void Disposing_of_an_ended_activation_again_ends_no_other()
    {
        using var layer = new InfiniAttentionModule(Options);
        using var first = new SegmentStreamer(layer);
        using var second = new SegmentStreamer(layer);
        var ended = first.Activate();
        ended.Dispose();
        using var active = second.Activate();

        ended.Dispose();

        Assert.Same(second, SegmentStreamer.Current);
    }

    [Fact]
    public void A_state_whose_open_segment_belongs_to_another_kind_of_layer_is_refused()
    {
        using var rotary = new InfiniAttentionModule(Options with { Rotary = new() });
        using var plain = new InfiniAttentionModule(Options);
        using var half = new InfiniAttentionModule(Options, dtype: ScalarType.BFloat16);
        var (_, rotated) = rotary.ForwardFrom(null, randn(1, 3, 8));
        var (_, state) = plain.ForwardFrom(null, randn(1, 3, 8));
        using (rotated)
        using (state)
        {
            Assert.Contains("of a layer with another Rotary", Refused(plain, rotated, randn(1, 1, 8)));
            Assert.Contains("of a layer with another Rotary", Refused(rotary, state, randn(1, 1, 8)));
            Assert.Contains("tokens of type Float32; they must be BFloat16", Refused(half, state, randn(1, 1, 8).to(bfloat16)));
        }

        static string Refused(InfiniAttentionModule layer, MemoryState state, Tensor x) =>
            Assert.Throws<ArgumentException>(nameof(state), () => layer.ForwardFrom(state, x)).Message;
    }

    [Fact]
    public void A_stream_saved_under_one_culture_loads_under_another()
    {
        using var layer = new InfiniAttentionModule(Options with { Rotary = new(10000.5) });
        using var streamer = new SegmentStreamer(layer);
        streamer.Forward(randn(1, 3, 8));
        using var file = new MemoryStream();
        streamer.Save(file);
        file.Position = 0;
        var before = CultureInfo.CurrentCulture;
        var comma = (CultureInfo)CultureInfo.InvariantCulture.Clone();
        comma.NumberFormat.NumberDecimalSeparator = ",";
        try
        {
            CultureInfo.CurrentCulture = comma;
            using var restored = new SegmentStreamer(layer);
            restored.Load(file);
            Assert.Equal(3, restored.Position);
        }
        finally
        {
            CultureInfo.CurrentCulture = before;
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_stream_larger_than_one_chunk_of_its_file_can_be_saved_and_loaded(bool canSeek)
    {
        const long Width = 4200; // M alone is 70 MB
        using var layer = new InfiniAttentionModule(new() { EmbedDim = 2, NumHeads = 1, SegmentLength = 1, HeadDim = Width });
        using var streamer = new SegmentStreamer(layer);
        using var noGrad = no_grad();
        streamer.Forward(randn(1, 2, 2));
        var path = Path.GetTempFileName();
        try
        {
            streamer.Save(path);
            Assert.True(new FileInfo(path).Length > 1 << 26);
            using var file = File.OpenRead(path);
            using var restored = new SegmentStreamer(layer);
            restored.Load(canSeek ? file : new DeflateStream(Deflated(file), CompressionMode.Decompress));

            var x = randn(1, 1, 2);
            Assert.Equal(0, (streamer.Forward(x) - restored.Forward(x)).abs().max().item<float>());
        }
        finally
        {
            File.Delete(path);
        }

        static MemoryStream Deflated(Stream source)
        {
            var deflated = new MemoryStream();
            using (var deflate = new DeflateStream(deflated, CompressionLevel.NoCompression, leaveOpen: true))
            {
                source.CopyTo(deflate);
            }

            deflated.Position = 0;
            return deflated;
        }
    }

    [Theory]
    [InlineData(-1.0)]
    [InlineData(double.NaN)]
    [InlineData(double.PositiveInfinity)]
    public void Write_weights_that_are_negative_or_not_finite_are_refused(double weight)
    {
        using var layer = new InfiniAttentionModule(Options);
        var weights = ones(1, 3);
        weights[0, 1] = tensor((float)weight);

        var error = Assert.Throws<ArgumentException>("WriteWeights", () => layer.forward(randn(1, 3, 8), new TokenInfo { WriteWeights = weights }));
        Assert.Contains("finite and at least 0", error.Message);
    }

    private sealed class Repeating : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule layer = new(Options);

        public Repeating()
            : base(nameof(Repeating)) => RegisterComponents();

        public int Times { get; set; } = 1;

        public Action? First { get; set; }

        public override Tensor forward(Tensor x)
        {
            First?.Invoke();
            return Times == 1 ? layer.call(x) : layer.call(layer.call(x));
        }
    }

    private sealed class Saving(Action save) : IProgress<long>
    {
        public void Report(long value) => save();
    }
}
