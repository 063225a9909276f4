using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Each thing that a streamer cannot do gives one clear error and leaves the stream as it was.</summary>
public sealed class SegmentStreamerBadInputTests : IDisposable
{
    private static readonly LayerCase Case = new() { Length = 6 };

    private readonly DisposeScope scope = NewDisposeScope();
    private readonly LayerStack model = new(Case, 2);
    private readonly Tensor x = Case.Input().detach();
    private readonly SegmentStreamer streamer;

    public SegmentStreamerBadInputTests()
    {
        streamer = new SegmentStreamer(model);
        using var mode = no_grad();
        _ = streamer.Forward(x);
    }

    public static TheoryData<long[], string[]> Inputs => new()
    {
        { [2, 0, 8], ["(2, 0, 8)", "token"] },
        { [0, 6, 8], ["(0, 6, 8)", "row"] },
        { [6], ["(6)", "(B, T, …)"] },
        { [3, 6, 8], ["3", "2", "Reset"] },
    };

    public void Dispose() => scope.Dispose();

    [Theory]
    [MemberData(nameof(Inputs))]
    public void An_input_that_is_empty_or_of_another_batch_is_refused_by_every_call(long[] shape, string[] words)
    {
        Tensor bad = zeros(shape, dtype: ScalarType.Float64);
        Refuses(() => streamer.Forward(bad), "input", words);
        Refuses(() => streamer.Prefill(bad), "input", words);
        Refuses(() => streamer.Stream(bad), "input", words);
        Refuses(() => streamer.Backpropagate(bad, bad, Sum, LossReduction.Sum), "input", words);
    }

    [Fact]
    public void An_input_on_another_device_is_refused() =>
        Refuses(() => streamer.Forward(zeros([2, 6, 8], dtype: ScalarType.Float64, device: META)), "input", "meta", "cpu");

    [Fact]
    public void Token_info_that_does_not_fit_the_input_is_refused()
    {
        var info = new TokenInfo { KeyPaddingMask = zeros(2, 5, dtype: ScalarType.Bool) };
        Refuses(() => streamer.Forward(x, info), "KeyPaddingMask", "(2, 5)", "(2, 6)");
        Refuses(() => streamer.Stream(x, info), "KeyPaddingMask", "(2, 5)", "(2, 6)");
        Refuses(() => streamer.Backpropagate(x, x, Sum, LossReduction.Sum, info: info), "KeyPaddingMask", "(2, 5)", "(2, 6)");
    }

    [Fact]
    public void A_model_without_Infini_attention_layers_is_refused()
    {
        var error = Assert.Throws<ArgumentException>(() => new SegmentStreamer(nn.Linear(3, 3)));
        Assert.Equal("model", error.ParamName);
        Assert.Contains("Linear", error.Message, StringComparison.Ordinal);
        Assert.Contains("InfiniAttentionModule", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Two_nested_activations_of_different_streamers_are_refused()
    {
        var other = new SegmentStreamer(model);
        using (streamer.Activate())
        {
            Refuses<InvalidOperationException>(() => other.Activate(), "active");
            Refuses<InvalidOperationException>(() => other.Forward(x), "active");
            Refuses<InvalidOperationException>(() => other.Backpropagate(x, x, Sum, LossReduction.Sum), "active");
            Assert.Same(streamer, SegmentStreamer.Current);
        }

        Assert.Null(SegmentStreamer.Current);
        Assert.Equal([2, 6, 8], other.Forward(x).shape);
    }

    [Fact]
    public void A_model_of_another_kind_must_be_called_inside_an_activation()
    {
        var pair = new SegmentStreamer(new PairModel(Case));
        var error = Assert.Throws<InvalidOperationException>(() => pair.Forward(x));
        Assert.Contains("Activate", error.Message, StringComparison.Ordinal);
        Assert.Contains(nameof(PairModel), error.Message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => pair.Backpropagate(x, x, Sum, LossReduction.Sum));
    }

    [Fact]
    public void A_target_that_does_not_fit_the_input_is_refused()
    {
        Refuses(() => streamer.Backpropagate(x, x.narrow(1, 0, 5), Sum, LossReduction.Sum), "target", "(2, 5, 8)", "(2, 6)");
        Refuses(() => streamer.Backpropagate(x, x.narrow(0, 0, 1), Sum, LossReduction.Sum), "target", "(1, 6, 8)", "(2, 6)");
    }

    [Fact]
    public void A_gradient_that_Backpropagate_would_lose_is_refused()
    {
        Refuses(() => streamer.Backpropagate(Case.Input(), x, Sum, LossReduction.Sum), "input", "gradient", "detach");
        Refuses(() => streamer.Backpropagate(x, Case.Input(), Sum, LossReduction.Sum), "target", "gradient", "detach");
    }

    [Fact]
    public void Losses_that_are_not_one_for_each_token_are_refused() =>
        Refuses<InvalidOperationException>(() => streamer.Backpropagate(x, x, (y, t) => y - t), "(2, 6, 8)", "(B, window) = (2, 6)", "Sum");

    [Fact]
    public void Rows_that_do_not_exist_are_refused()
    {
        Refuses(() => streamer.SelectRows(tensor(new long[] { 0, 2 })), "indices", "2");
        Refuses(() => streamer.ResetRows(tensor(new[] { true, false, true })), "rows", "3", "2");
    }

    [Fact]
    public void Null_arguments_are_refused()
    {
        Assert.Throws<ArgumentNullException>(() => new SegmentStreamer(null!));
        Assert.Throws<ArgumentNullException>(() => streamer.Forward(null!));
        Assert.Throws<ArgumentNullException>(() => streamer.Prefill(null!));
        Assert.Throws<ArgumentNullException>(() => streamer.Stream(null!));
        Assert.Throws<ArgumentNullException>(() => streamer.Backpropagate(null!, x, Sum, LossReduction.Sum));
        Assert.Throws<ArgumentNullException>(() => streamer.Backpropagate(x, null!, Sum, LossReduction.Sum));
        Assert.Throws<ArgumentNullException>(() => streamer.Backpropagate(x, x, null!));
        Assert.Throws<ArgumentNullException>(() => streamer.SelectRows(null!));
        Assert.Throws<ArgumentNullException>(() => streamer.ResetRows(null!));
        Assert.Throws<ArgumentNullException>(() => streamer.To((Device)null!));
        Assert.Throws<ArgumentNullException>(() => streamer.Save((string)null!));
        Assert.Throws<ArgumentNullException>(() => streamer.Load((Stream)null!));
    }

    [Fact]
    public void Every_call_of_a_disposed_streamer_is_refused()
    {
        streamer.Dispose();
        streamer.Dispose();
        Action[] members =
        [
            () => streamer.Forward(x), () => streamer.Prefill(x), () => streamer.Stream(x), () => streamer.Activate(),
            () => streamer.Backpropagate(x, x, Sum, LossReduction.Sum), streamer.Detach, streamer.Reset, () => streamer.ResetRows(tensor(new[] { true, true })),
            () => streamer.SelectRows(tensor(new long[] { 0 })), () => streamer.Fork(), () => streamer.To(CPU),
            () => streamer.Save(Stream.Null), () => streamer.Load(Stream.Null),
        ];
        Assert.All(members, member => Assert.Throws<ObjectDisposedException>(member));
        Assert.Equal([2, 6, 8], model.call(x).shape);
    }

    private static Tensor Sum(Tensor y, Tensor target) => (y - target).sum();

    private void Refuses(Action action, string parameter, params string[] words) =>
        Unchanged(() => BadInput.IsRefused(action, parameter, words));

    private void Refuses<T>(Action action, params string[] words)
        where T : Exception
    {
        Unchanged(() =>
        {
            using var inner = NewDisposeScope();
            var error = Assert.Throws<T>(action);
            Assert.All(words, word => Assert.Contains(word, error.Message, StringComparison.Ordinal));
        });
    }

    /// <summary>The stream, the gradients and the number of live tensors must not change.</summary>
    private void Unchanged(Action action)
    {
        var before = SafeTensors.Of(streamer);
        Assert.Equal(0, LiveTensors.LeftBy(action));
        SafeTensors.Of(streamer).CompareTo(before, 0, new Difference());
        Assert.Equal(6, streamer.Position);
        Assert.All(model.parameters(), parameter => Assert.Null(parameter.grad));
    }
}
