using FsCheck;
using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Backpropagate against ordinary back-propagation through the whole input at once.</summary>
public class BackpropagateTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-9;

    private static readonly Arbitrary<(StreamCase Case, int Window, int Before)> Any = Arb.From(
        from one in StreamCase.Generator
        from window in Gen.Choose(1, 3 * one.Layer.Segment)
        from before in Gen.Choose(0, 5)
        select (one with { Cuts = [] }, window, before));

    [Fact]
    public void Its_gradients_loss_and_final_state_are_those_of_ordinary_back_propagation() =>
        Property.Holds(output, Any, 80, 50, (any, difference) =>
        {
            (StreamCase one, int window, int before) = any;
            LayerStack model = one.Model();
            Tensor x = one.Layer.Input().detach(), target = (one.Layer with { Seed = one.Layer.Seed + 100 }).Input().detach();
            TokenInfo? info = Detached(one.Layer.Info());
            Tensor earlier = (one.Layer with { Seed = one.Layer.Seed + 200, Length = Math.Max(before, 1) }).Input().detach();

            SegmentStreamer Start()
            {
                var streamer = new SegmentStreamer(model) { WindowTokens = window };
                if (before > 0)
                {
                    using var mode = no_grad();
                    _ = streamer.Forward(earlier);
                }

                return streamer;
            }

            using SegmentStreamer ordinary = Start(), bounded = Start();
            Tensor expected = SquaredError(ordinary.Forward(x, info), target);
            expected.backward();
            Dictionary<string, Tensor> gradients = TakeGradients(model);

            double loss = bounded.Backpropagate(x, target, SquaredError, LossReduction.Sum, info: info).Loss;
            difference.Add(expected, tensor(loss), Tolerance, "loss");
            CompareGradients(gradients, TakeGradients(model), difference);
            SafeTensors.Of(bounded).CompareTo(SafeTensors.Of(ordinary), Tolerance, difference);
            Assert.Equal(before + one.Layer.Length, bounded.Position);
            Assert.All(bounded.States.Current, state => Assert.False(state!.Memory.requires_grad));
        });

    /// <summary>Ordinary training in the same windows draws the same masks in the same order.</summary>
    [Fact]
    public void With_dropout_on_the_masks_are_those_of_one_ordinary_pass() =>
        Property.Holds(output, Any, 40, 51, (any, difference) =>
        {
            (StreamCase one, int window, int _) = any;
            var model = new LayerStack(one.Layer, one.Depth, dropout: 0.3);
            model.train();
            Tensor x = one.Layer.Input().detach(), target = (one.Layer with { Seed = one.Layer.Seed + 100 }).Input().detach();
            using SegmentStreamer ordinary = new(model) { WindowTokens = window }, bounded = new(model) { WindowTokens = window };

            manual_seed(one.Layer.Seed);
            Tensor expected = SquaredError(ordinary.Forward(x), target);
            double[] random = Difference.Numbers(rand(3));
            expected.backward();
            Dictionary<string, Tensor> gradients = TakeGradients(model);

            manual_seed(one.Layer.Seed);
            double loss = bounded.Backpropagate(x, target, SquaredError, LossReduction.Sum).Loss;
            Assert.Equal(random, Difference.Numbers(rand(3)));
            difference.Add(expected, tensor(loss), Tolerance, "loss");
            CompareGradients(gradients, TakeGradients(model), difference);
        });

    [Theory]
    [InlineData(MemoryUpdate.Linear, 0)]
    [InlineData(MemoryUpdate.Linear, 0.2)]
    [InlineData(MemoryUpdate.Delta, 0)]
    [InlineData(MemoryUpdate.Delta, 0.2)]
    public void A_language_model_with_embedding_and_head_gets_the_ordinary_gradients(MemoryUpdate update, double dropout)
    {
        using var scope = NewDisposeScope();
        var options = new InfiniAttentionOptions
        {
            EmbedDim = 8,
            NumHeads = 4,
            NumKeyValueHeads = 2,
            SegmentLength = 8,
            Update = update,
            Dropout = dropout,
            Rotary = new RotaryOptions(),
        };
        var difference = new Difference();
        foreach (int length in new[] { 5, 16, 67, 150 })
        {
            manual_seed(length);
            var model = new TinyLanguageModel(options, depth: 2);
            model.train();
            Tensor tokens = new Draw(length).Tokens(TinyLanguageModel.Words, 2, length), next = new Draw(length + 1).Tokens(TinyLanguageModel.Words, 2, length);
            using SegmentStreamer ordinary = new(model) { WindowTokens = 24 }, bounded = new(model) { WindowTokens = 24 };
            manual_seed(9);
            Tensor expected = TinyLanguageModel.Loss(ordinary.Forward(tokens), next);
            expected.backward();
            Dictionary<string, Tensor> gradients = TakeGradients(model);
            Assert.Contains("embedding.weight", gradients.Keys);
            manual_seed(9);
            difference.Add(expected, tensor(bounded.Backpropagate(tokens, next, TinyLanguageModel.Loss, LossReduction.Sum).Loss), Tolerance, "loss");
            CompareGradients(gradients, TakeGradients(model), difference);
        }

        output.WriteLine(difference.ToString());
    }

    [Fact]
    public void Gradients_are_added_to_existing_ones()
    {
        using var scope = NewDisposeScope();
        (LayerStack model, SegmentStreamer streamer, Tensor x, Tensor target) = Simple();
        streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum);
        var once = model.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad!.clone());
        streamer.Reset();
        streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum);
        foreach ((string name, var parameter) in model.named_parameters())
        {
            Difference.Close(once[name] * 2, parameter.grad!, Tolerance, name);
        }
    }

    [Fact]
    public void A_frozen_parameter_gets_no_gradient()
    {
        using var scope = NewDisposeScope();
        (LayerStack model, SegmentStreamer streamer, Tensor x, Tensor target) = Simple();
        model.named_parameters().First(p => p.name.EndsWith("gate", StringComparison.Ordinal)).parameter.requires_grad_(false);
        streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum);
        Assert.All(model.named_parameters(), p => Assert.Equal(p.parameter.requires_grad, p.parameter.grad is not null));
    }

    [Fact]
    public void It_works_inside_no_grad()
    {
        using var scope = NewDisposeScope();
        (LayerStack model, SegmentStreamer streamer, Tensor x, Tensor target) = Simple();
        using (no_grad())
        {
            streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum);
            Assert.False(is_grad_enabled());
        }

        Assert.All(model.parameters(), p => Assert.NotNull(p.grad));
    }

    [Fact]
    public void Progress_counts_both_passes_and_ends_at_the_length()
    {
        using var scope = NewDisposeScope();
        (LayerStack _, SegmentStreamer streamer, Tensor x, Tensor target) = Simple();
        var reports = new List<long>();
        streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum, progress: new Report(reports.Add));
        Assert.Equal(reports.Order(), reports);
        Assert.Equal(x.shape[1], reports[^1]);
        Assert.True(reports.Count >= 5, $"{reports.Count} reports");
    }

    /// <summary>There are three windows; the loss of the last one is computed first.</summary>
    [Theory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(3, true)]
    [InlineData(1, true)]
    public void A_loss_that_throws_leaves_gradients_stream_and_random_state_as_they_were(int call, bool hasGradients)
    {
        using var scope = NewDisposeScope();
        LayerCase one = new() { Length = 22, Update = MemoryUpdate.Delta };
        var model = new LayerStack(one, 2, dropout: 0.2);
        model.train();
        using var streamer = new SegmentStreamer(model) { WindowTokens = 8 };
        Tensor x = one.Input().detach(), target = one.Input().detach() * 2;
        if (hasGradients)
        {
            streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum);
        }

        var before = model.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad is { } g ? Difference.Numbers(g) : null);
        var saved = SafeTensors.Of(streamer);
        manual_seed(21);
        double[] random = Difference.Numbers(rand(3));
        manual_seed(21);
        int calls = 0;
        Tensor Throwing(Tensor y, Tensor t) => ++calls == call ? throw new InvalidOperationException("no loss today") : SquaredError(y, t);

        long left = LiveTensors.LeftBy(() =>
        {
            using var inner = NewDisposeScope(); // the loss function's own tensors
            var error = Assert.Throws<InvalidOperationException>(() => streamer.Backpropagate(x, target, Throwing, LossReduction.Sum));
            Assert.Equal("no loss today", error.Message);
        });
        Assert.Equal(0, left);
        Assert.Equal(random, Difference.Numbers(rand(3)));
        Assert.Null(SegmentStreamer.Current);
        foreach ((string name, var parameter) in model.named_parameters())
        {
            Assert.Equal(before[name], parameter.grad is { } g ? Difference.Numbers(g) : null);
        }

        SafeTensors.Of(streamer).CompareTo(saved, 0, new Difference());
        Assert.Equal(hasGradients ? 22 : 0, streamer.Position);
    }

    [Fact]
    public void It_leaves_only_gradients()
    {
        using var scope = NewDisposeScope();
        (LayerStack _, SegmentStreamer streamer, Tensor x, Tensor target) = Simple();
        void Step()
        {
            using var inner = NewDisposeScope();
            streamer.Backpropagate(x, target, SquaredError, LossReduction.Sum);
        }

        Step();
        streamer.Reset();
        Step();
        long live = LiveTensors.Count;
        streamer.Reset();
        Step();
        Assert.Equal(live, LiveTensors.Count);
    }

    /// <summary>In a window of one token of one row the single loss is that of the token, not a sum.</summary>
    [Theory]
    [InlineData(LossReduction.Sum, 1)]
    [InlineData(LossReduction.Sum, 3)]
    [InlineData(LossReduction.Mean, 1)]
    public void A_target_that_does_not_count_is_left_out_in_windows_of_any_size(LossReduction reduction, long window)
    {
        using var scope = NewDisposeScope();
        using var streamer = new SegmentStreamer(new LayerStack(new LayerCase { Batch = 1 }, 1)) { WindowTokens = window };
        Tensor x = new LayerCase { Batch = 1, Length = 7 }.Input().detach(), target = arange(7, int64).view(1, 7);
        var result = streamer.Backpropagate(x, target, (y, t) => (y * 0).sum(-1) + t, reduction, ignoreIndex: 3);
        Assert.Equal(6, result.Count);
        Assert.Equal(reduction == LossReduction.Sum ? 18 : 3, result.Loss, 1e-9);
    }

    private static Tensor SquaredError(Tensor y, Tensor target) => (y - target).pow(2).sum();

    private static (LayerStack Model, SegmentStreamer Streamer, Tensor Input, Tensor Target) Simple()
    {
        LayerCase one = new() { Length = 22 };
        var model = new LayerStack(one, 2);
        return (model, new SegmentStreamer(model) { WindowTokens = 8 }, one.Input().detach(), one.Input().detach() * 2);
    }

    private static TokenInfo? Detached(TokenInfo? info) => info is null ? null : new()
    {
        KeyPaddingMask = info.KeyPaddingMask,
        DocumentStarts = info.DocumentStarts,
        WriteWeights = info.WriteWeights?.detach(),
    };

    /// <summary>Returns the gradients of all parameters and clears them.</summary>
    private static Dictionary<string, Tensor> TakeGradients(nn.Module model)
    {
        var gradients = model.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad?.clone() ?? zeros_like(p.parameter));
        model.zero_grad();
        return gradients;
    }

    private static void CompareGradients(Dictionary<string, Tensor> expected, Dictionary<string, Tensor> actual, Difference difference)
    {
        foreach ((string name, Tensor gradient) in expected)
        {
            difference.Add(gradient, actual[name], Tolerance, $"gradient of {name}");
        }
    }

    private sealed class Report(Action<long> report) : IProgress<long>
    {
        void IProgress<long>.Report(long value) => report(value);
    }
}
