using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Plausible calls that once ran without an error and gave wrong results: they are now correct, or refused with the reason.</summary>
public class StreamMisuseTests
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 };

    [Fact]
    public void A_window_has_the_size_asked_for_whatever_the_segment_lengths()
    {
        using var scope = NewDisposeScope();
        long[] primes = [10007, 10009, 10037, 10039, 10061];
        foreach (long[] lengths in new[] { [1000, 1024], primes })
        {
            var model = nn.Sequential([.. lengths.Select((n, i) => ($"layer{i}", (nn.Module<Tensor, Tensor>)new InfiniAttentionModule(Options with { SegmentLength = n })))]);
            using var streamer = new SegmentStreamer(model);
            Assert.InRange(streamer.WindowTokens, 1024, 10061);
            streamer.WindowTokens = 1500;
            Assert.Equal(1500, streamer.WindowTokens);
            using var mode = no_grad();
            Tensor x = randn(1, 3100, 8);
            Difference.Close(model.forward(x), streamer.Forward(x), 1e-5, string.Join(", ", lengths));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(-8)]
    public void A_window_of_less_than_one_token_is_refused(long window)
    {
        using var scope = NewDisposeScope();
        using var streamer = new SegmentStreamer(new InfiniAttentionModule(Options));
        Assert.Contains($"{window}", Assert.Throws<ArgumentOutOfRangeException>(() => streamer.WindowTokens = window).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Gradients_summed_over_many_windows_are_rounded_once()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options with { Bias = true }, dtype: ScalarType.BFloat16);
        var bias = layer.get_parameter("o_proj.bias")!;
        using var streamer = new SegmentStreamer(layer) { WindowTokens = 4 };
        Tensor x = randn(1, 4096, 8).to(ScalarType.BFloat16);
        var result = streamer.Backpropagate(x, x, (y, _) => y.to(ScalarType.Float32).sum(-1), LossReduction.Sum);
        Assert.All(Difference.Numbers(bias.grad!), gradient => Assert.Equal(4096, gradient));
        Assert.Equal(4096, result.Count);

        // All gradients against those of the same layer in float32.
        var wide = new InfiniAttentionModule(Options with { Bias = true });
        wide.load_state_dict(layer.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().to(ScalarType.Float32)));
        using var other = new SegmentStreamer(wide) { WindowTokens = 4 };
        other.Backpropagate(x.to(ScalarType.Float32), x, (y, _) => y.sum(-1), LossReduction.Sum);
        foreach (var (name, parameter) in layer.named_parameters())
        {
            Tensor expected = wide.get_parameter(name)!.grad!, actual = parameter.grad!.to(ScalarType.Float32);
            Assert.True((expected - actual).norm().item<float>() < 0.02 * expected.norm().item<float>() + 0.5,
                $"{name}: {(expected - actual).norm().item<float>():g3} of {expected.norm().item<float>():g3}");
        }
    }

    [Fact]
    public void A_streamer_disposed_of_inside_its_activation_stays_disposed()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        var streamer = new SegmentStreamer(layer);
        using (streamer.Activate())
        {
            layer.call(randn(1, 3, 8));
            streamer.Dispose();
            Assert.Throws<ObjectDisposedException>(() => layer.call(randn(1, 3, 8)));
            Assert.Equal(0, streamer.StateBytes);
        }
    }

    [Fact]
    public void An_activation_that_ends_on_another_thread_is_refused_and_leaves_nothing_active()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        using var mode = no_grad();
        Tensor x = randn(1, 7, 8), fresh = layer.call(x);
        using var streamer = new SegmentStreamer(layer);
        IDisposable activation = streamer.Activate();
        layer.call(x);
        Exception? refused = null;
        RunOnAnotherThread(() => refused = Record.Exception(activation.Dispose));
        Assert.Contains("another thread", Assert.IsType<InvalidOperationException>(refused).Message, StringComparison.Ordinal);

        Assert.Null(SegmentStreamer.Current);
        Difference.Close(fresh, layer.call(x), 0, "the next call on this thread");
    }

    [Fact]
    public void A_layer_on_another_thread_than_its_active_stream_is_refused()
    {
        using var scope = NewDisposeScope();
        Exception? refused = null;
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(1, 3, 8);
        using var streamer = new SegmentStreamer(layer);
        using (streamer.Activate())
        {
            RunOnAnotherThread(() => refused = Record.Exception(() => layer.call(x)));
            Assert.Contains("Task.Run", Assert.IsType<InvalidOperationException>(refused).Message, StringComparison.Ordinal);
        }

        RunOnAnotherThread(() => refused = Record.Exception(() => layer.call(x)));
        Assert.Null(refused);
    }

    [Theory]
    [InlineData(6)]
    [InlineData(8)]
    [InlineData(9)]
    public void A_stream_continues_after_its_model_was_converted_whatever_the_cut(int steps)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        Tensor x = randn(1, 30, 8), rest = x.narrow(1, steps, 30 - steps).to(ScalarType.BFloat16);
        var outputs = new List<Tensor>();
        foreach (int piece in new[] { 1, steps })
        {
            manual_seed(5);
            var layer = new InfiniAttentionModule(Options with { Rotary = new() });
            using var streamer = new SegmentStreamer(layer);
            for (int start = 0; start < steps; start += piece)
            {
                streamer.Forward(x.narrow(1, start, piece));
            }

            layer.to(ScalarType.BFloat16);
            outputs.Add(streamer.Forward(rest));
            layer.to(ScalarType.Float32);
            streamer.Forward(x.narrow(1, 0, 1));
            Assert.Equal(31, streamer.Position);
        }

        Difference.Close(outputs[0].to(ScalarType.Float32), outputs[1].to(ScalarType.Float32), 0.02, $"{steps} tokens before");
    }

    [Fact]
    public void The_windows_of_Stream_have_the_gradient_mode_of_its_call_and_can_be_enumerated_once()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer) { WindowTokens = 4 };
        IEnumerable<Tensor> windows;
        using (no_grad())
        {
            windows = streamer.Stream(randn(1, 10, 8));
        }

        Assert.True(is_grad_enabled());
        Assert.All(windows.ToList(), window => Assert.False(window.requires_grad));
        Assert.Contains("second time", Assert.Throws<InvalidOperationException>(() => windows.ToList()).Message, StringComparison.Ordinal);
        Assert.Equal(10, streamer.Position);
    }

    [Fact]
    public void A_layer_that_is_not_registered_is_refused()
    {
        using var scope = NewDisposeScope();
        var model = new Unregistered();
        using var streamer = new SegmentStreamer(model);
        var error = Assert.Throws<InvalidOperationException>(() => streamer.Forward(randn(1, 6, 8)));
        Assert.Contains("ModuleList", error.Message, StringComparison.Ordinal);
        Assert.Equal(0, streamer.Position);
    }

    [Fact]
    public void The_mean_is_over_the_targets_that_count_whatever_the_windows()
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var model = new TinyLanguageModel(Options, depth: 2);
        Tensor tokens = randint(0, TinyLanguageModel.Words, [2, 41], int64), inputs = tokens.narrow(1, 0, 40), targets = tokens.narrow(1, 1, 40).clone();
        targets[TensorIndex.Colon, TensorIndex.Slice(8, 16)] = -100; // a window without any target
        targets[0, 30] = -100;
        Tensor expected = nn.functional.cross_entropy(model.call(inputs).transpose(1, 2), targets);
        expected.backward();
        double[] gradient = Difference.Numbers(model.parameters().First().grad!);
        foreach (long window in new long[] { 8, 12, 40 })
        {
            model.zero_grad();
            using var streamer = new SegmentStreamer(model) { WindowTokens = window };
            var result = streamer.Backpropagate(inputs, targets, (logits, target) => nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction: nn.Reduction.None));
            Assert.Equal(63, result.Count);
            Assert.Equal(expected.item<double>(), result.Loss, 1e-9);
            Difference.Close(tensor(gradient), tensor(Difference.Numbers(model.parameters().First().grad!)), 1e-9, $"windows of {window}");

            // PyTorch's default reduction, the mean, is refused: the sum over windows would be too large by a factor of their number.
            streamer.Reset();
            var error = Assert.Throws<InvalidOperationException>(() => streamer.Backpropagate(inputs, targets, (logits, target) => nn.functional.cross_entropy(logits.transpose(1, 2), target)));
            Assert.Contains("one number per token", error.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void A_mean_over_no_target_is_refused()
    {
        using var scope = NewDisposeScope();
        var model = new TinyLanguageModel(Options, depth: 2);
        using var streamer = new SegmentStreamer(model);
        Tensor tokens = zeros([1, 8], int64);
        Assert.Contains("-100", Assert.Throws<ArgumentException>(() => streamer.Backpropagate(tokens, full_like(tokens, -100), (logits, _) => logits.sum(-1))).Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(7)]
    [InlineData(64)]
    public void Prefill_returns_the_last_real_token_of_each_row(long window)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(4, 20, 8), keep = ones([4, 20], int64);
        long[] lengths = [20, 13, 1, 4];
        for (int row = 0; row < 4; row++)
        {
            keep[row, TensorIndex.Slice(lengths[row])] = 0;
        }

        using var streamer = new SegmentStreamer(layer) { WindowTokens = window };
        Tensor last = streamer.Prefill(x, TokenInfo.FromAttentionMask(keep));
        Assert.Equal([4, 1, 8], last.shape);
        for (int row = 0; row < 4; row++)
        {
            Tensor alone = layer.call(x.narrow(0, row, 1).narrow(1, 0, lengths[row]));
            Difference.Close(alone[0, -1], last[row, 0], 1e-5, $"row {row} of {lengths[row]} tokens");
        }
    }

    [Fact]
    public void FromAttentionMask_takes_ones_and_zeros_and_refuses_everything_else()
    {
        using var scope = NewDisposeScope();
        Tensor mask = tensor(new long[,] { { 1, 1, 0 }, { 1, 0, 0 } });
        Assert.Equal([false, false, true, false, true, true], TokenInfo.FromAttentionMask(mask).KeyPaddingMask!.data<bool>().ToArray());
        Assert.Contains("1 for a token to keep", Assert.Throws<ArgumentException>(() => TokenInfo.FromAttentionMask(mask * 2)).Message, StringComparison.Ordinal);
        var layer = new InfiniAttentionModule(Options);
        var error = Assert.Throws<ArgumentException>(() => layer.call(randn(2, 3, 8), new TokenInfo { KeyPaddingMask = mask }));
        Assert.Contains(nameof(TokenInfo.FromAttentionMask), error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Every_layer_of_a_call_sees_the_position_of_its_first_token()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new Watching();
        using var streamer = new SegmentStreamer(model) { WindowTokens = 8 };
        streamer.Forward(randn(1, 5, 8));
        streamer.Forward(randn(1, 9, 8));
        Assert.Equal([0, 0, 0, 5, 5, 5, 8, 8, 8], model.Seen);
        Assert.Equal(14, streamer.Position);
    }

    [Fact]
    public void A_layer_applied_twice_in_one_forward_inside_an_activation_is_refused()
    {
        using var scope = NewDisposeScope();
        var first = new InfiniAttentionModule(Options);
        var second = new InfiniAttentionModule(Options);
        var model = nn.Sequential(("first", first), ("second", second));
        Tensor x = randn(1, 6, 8);
        using var streamer = new SegmentStreamer(model);
        using (streamer.Activate())
        {
            first.call(x);
            Assert.Contains("'first' ran again", Assert.Throws<InvalidOperationException>(() => first.call(x)).Message, StringComparison.Ordinal);
        }

        using (streamer.Activate())
        {
            model.call(x);
            model.call(x);
        }

        Assert.Equal(12, streamer.Position);
    }

    [Fact]
    public void A_model_that_changes_its_input_in_place_gets_it_unchanged_in_both_passes()
    {
        using var scope = NewDisposeScope();
        var model = new Scaling();
        Tensor x = randn(1, 24, 8), before = x.clone();
        model.call(x.clone()).square().sum().backward();
        double[] expected = Difference.Numbers(model.parameters().First().grad!);
        model.zero_grad();
        using var streamer = new SegmentStreamer(model) { WindowTokens = 8 };
        streamer.Backpropagate(x, x, (y, _) => y.square().sum(-1), LossReduction.Sum);
        Difference.Close(tensor(expected), tensor(Difference.Numbers(model.parameters().First().grad!)), 1e-4, "gradient");
        Difference.Close(before, x, 0, "the input");
    }

    [Fact]
    public void A_cancelled_call_leaves_the_stream_as_it_was()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        using var streamer = new SegmentStreamer(layer) { WindowTokens = 4 };
        Tensor x = randn(1, 20, 8);
        streamer.Forward(x.narrow(1, 0, 3));
        using var cancellation = new CancellationTokenSource();
        var progress = new Cancelling(cancellation);
        Assert.Throws<OperationCanceledException>(() => streamer.Prefill(x, null, progress, cancellation.Token));
        Assert.Throws<OperationCanceledException>(() => streamer.Backpropagate(x, x, (y, _) => y.sum(-1), cancellationToken: cancellation.Token));
        Assert.Throws<OperationCanceledException>(() => streamer.Stream(x, cancellationToken: cancellation.Token).ToList());
        Assert.Equal(3, streamer.Position);
        Assert.Null(layer.Gate.grad);
    }

    private static void RunOnAnotherThread(Action action)
    {
        var thread = new Thread(() => action());
        thread.Start();
        thread.Join();
    }

    private sealed class Cancelling(CancellationTokenSource source) : IProgress<long>
    {
        public void Report(long value) => source.Cancel();
    }

    private sealed class Unregistered : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule registered = new(Options);
        private readonly List<InfiniAttentionModule> others = [new(Options)];

        public Unregistered()
            : base(nameof(Unregistered)) => RegisterComponents();

        public override Tensor forward(Tensor x) => others[0].call(registered.call(x));
    }

    private sealed class Watching : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule first = new(Options);
        private readonly InfiniAttentionModule second = new(Options);

        public Watching()
            : base(nameof(Watching)) => RegisterComponents();

        public List<long> Seen { get; } = [];

        public override Tensor forward(Tensor x)
        {
            Seen.Add(SegmentStreamer.Current!.Position);
            x = first.call(x);
            Seen.Add(SegmentStreamer.Current.Position);
            x = second.call(x);
            Seen.Add(SegmentStreamer.Current.Position);
            return x;
        }
    }

    private sealed class Scaling : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule layer = new(Options);

        public Scaling()
            : base(nameof(Scaling)) => RegisterComponents();

        public override Tensor forward(Tensor x) => layer.call(x.mul_(2));
    }
}
