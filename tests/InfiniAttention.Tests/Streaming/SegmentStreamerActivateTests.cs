using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Models with any forward and layers at any depth, called inside an activation.</summary>
public class SegmentStreamerActivateTests
{
    private const double Tolerance = 1e-12;

    private static readonly LayerCase Case = new() { Length = 11, Documents = true, Padding = true, WriteWeights = true };

    [Fact]
    public void A_call_inside_continues_the_stream_and_one_outside_does_not()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new PairModel(Case);
        Tensor x = Case.Input().detach();
        Tensor whole = model.call(x, 0.5).Output;
        using var streamer = new SegmentStreamer(model);
        var outputs = new List<Tensor>();
        for (int start = 0; start < 11; start += 3)
        {
            int length = Math.Min(3, 11 - start);
            using (streamer.Activate())
            {
                Assert.Same(streamer, SegmentStreamer.Current);
                (Tensor y, long position) = model.call(x.narrow(1, start, length), 0.5);
                outputs.Add(y);
                Assert.Equal(start, position);
                Assert.Equal(start + length, streamer.Position);
            }

            Assert.Null(SegmentStreamer.Current);
            Difference.Close(whole, model.call(x, 0.5).Output, 0, "a call outside");
        }

        Difference.Close(whole, cat(outputs, 1), Tolerance, "the calls inside, together");
    }

    [Fact]
    public void Several_calls_inside_one_activation_continue_the_same_stream()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new LayerStack(Case, 2);
        Tensor x = Case.Input().detach();
        Tensor whole = model.call(x);
        using var streamer = new SegmentStreamer(model);
        using (streamer.Activate())
        {
            Tensor both = cat([model.call(x.narrow(1, 0, 5)), model.call(x.narrow(1, 5, 6))], 1);
            using (streamer.Activate())
            {
                Assert.Same(streamer, SegmentStreamer.Current);
            }

            Assert.Same(streamer, SegmentStreamer.Current);
            Difference.Close(whole, both, Tolerance, "both calls");
        }
    }

    [Fact]
    public void Token_info_reaches_every_layer()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new LayerStack(Case, 3);
        Tensor x = Case.Input().detach();
        using SegmentStreamer one = new(model), other = new(model);
        Tensor expected = one.Forward(x, Case.Info());
        using (other.Activate(Case.Info()))
        {
            Difference.Close(expected, model.call(x), 0, "output with info");
        }

        SafeTensors.Of(other).CompareTo(SafeTensors.Of(one), 0, new Difference());
        Assert.NotEqual(Difference.Numbers(expected), Difference.Numbers(model.call(x)));
    }

    [Fact]
    public void Token_info_of_an_activation_reaches_the_streamers_own_calls_inside()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        Tensor x = Case.Input().detach();
        using SegmentStreamer one = new(new LayerStack(Case, 2)) { WindowTokens = 4 };
        using SegmentStreamer other = one.Fork();
        Tensor expected = one.Forward(x, Case.Info());
        Tensor inside;
        using (other.Activate(Case.Info()))
        {
            inside = other.Forward(x);
            other.Reset();
            Difference.Close(expected, cat(other.Stream(x).ToList(), 1), 0, "Stream");
            other.Reset();
            Difference.Close(expected.narrow(1, 10, 1), other.Prefill(x), 0, "Prefill");
            Assert.Throws<ArgumentException>("KeyPaddingMask", () => other.Forward(x.narrow(1, 0, 3)));
        }

        Difference.Close(expected, inside, 0, "Forward");
    }

    [Fact]
    public void A_model_may_give_one_layer_other_token_info_in_a_nested_activation()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new Weighing(Case);
        Tensor x = Case.Input().detach();
        Tensor whole = model.call(x);
        using var streamer = new SegmentStreamer(model);
        Tensor first = streamer.Forward(x.narrow(1, 0, 5));
        using (streamer.Activate())
        {
            Difference.Close(whole, cat([first, model.call(x.narrow(1, 5, 6))], 1), Tolerance, "both calls");
        }

        Assert.Equal(11, streamer.Position);
    }

    [Fact]
    public void A_layer_of_another_model_does_not_see_the_stream()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule stranger = Case.Layer();
        Tensor x = Case.Input().detach();
        Tensor expected = stranger.forward(x);
        var model = new LayerStack(Case, 1);
        using var streamer = new SegmentStreamer(model);
        using (streamer.Activate())
        {
            _ = model.call(x);
            Difference.Close(expected, stranger.forward(x), 0, "first call");
            Difference.Close(expected, stranger.forward(x), 0, "second call");
        }
    }

    [Fact]
    public void A_call_that_fails_inside_leaves_the_stream_as_it_was()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new LayerStack(Case, 2);
        Tensor x = Case.Input().detach();
        using var streamer = new SegmentStreamer(model);
        _ = streamer.Forward(x);
        var before = SafeTensors.Of(streamer);
        using (streamer.Activate())
        {
            Assert.ThrowsAny<ArgumentException>(() => model.call(x.narrow(2, 0, 7)));
            Assert.ThrowsAny<ArgumentException>(() => model.call(x.narrow(0, 0, 1)));
        }

        SafeTensors.Of(streamer).CompareTo(before, 0, new Difference());
        Assert.Equal(11, streamer.Position);
    }

    /// <summary>Two layers, the first of which writes with half the weight.</summary>
    private sealed class Weighing : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule first, second;

        public Weighing(LayerCase one)
            : base(nameof(Weighing))
        {
            (first, second) = (one.Layer(), (one with { Seed = one.Seed + 1 }).Layer());
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            var half = new TokenInfo { WriteWeights = full([x.shape[0], x.shape[1]], 0.5, ScalarType.Float64) };
            using (SegmentStreamer.Current?.Activate(half))
            {
                x = SegmentStreamer.Current is null ? first.forward(x, half) : first.call(x);
            }

            return second.call(x);
        }
    }
}
