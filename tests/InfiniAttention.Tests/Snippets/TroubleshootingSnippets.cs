using InfiniAttention.Tests.Documentation;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

/// <summary>The symptoms of docs/troubleshooting.md: each occurs as the page says, with the message that it shows, and its cure ends it.</summary>
public sealed class TroubleshootingSnippets : IDisposable
{
    private const string Page = "docs/troubleshooting.md";

    private readonly DisposeScope scope = NewDisposeScope();
    private readonly LanguageModel model = new();

    public TroubleshootingSnippets() => random.manual_seed(7);

    public void Dispose()
    {
        model.Dispose();
        scope.Dispose();
    }

    [Fact]
    public void Positions_that_begin_again_at_each_call()
    {
        using var noGrad = no_grad();
        var (learned, tokens) = (new Positions(), LanguageModel.Tokens(1, 30));
        Assert.True(learned.call(tokens).allclose(InPieces(learned, tokens), 1e-4, 1e-5));

        learned.FromTheStream = false;
        Assert.False(learned.call(tokens).allclose(InPieces(learned, tokens), 1e-4, 1e-5));
    }

    [Fact]
    public void Dropout_that_is_on()
    {
        using var noGrad = no_grad();
        var (dropping, tokens) = (new LanguageModel(dropout: 0.5), LanguageModel.Tokens(1, 30));
        Assert.False(dropping.call(tokens).allclose(InPieces(dropping, tokens), 1e-4, 1e-5));

        dropping.eval();
        Assert.True(dropping.call(tokens).allclose(InPieces(dropping, tokens), 1e-4, 1e-5));
        dropping.Dispose();
    }

    [Fact]
    public void A_loss_that_is_a_mean()
    {
        var (inputs, targets) = (LanguageModel.Tokens(2, 64), LanguageModel.Tokens(2, 64));
        using var streamer = new SegmentStreamer(model) { WindowTokens = 16 };
        Tensor MeanLoss(Tensor logits, Tensor target) => nn.functional.cross_entropy(logits.transpose(1, 2), target);

        IsShown(Assert.Throws<InvalidOperationException>(() => streamer.Backpropagate(inputs, targets, MeanLoss)));
        var tooLarge = streamer.Backpropagate(inputs, targets, MeanLoss, LossReduction.Sum);
        streamer.Reset();

        #region one number a token
        var result = streamer.Backpropagate(inputs, targets, (logits, target) =>
            nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction: nn.Reduction.None));
        #endregion

        Assert.Equal(4 * result.Loss, tooLarge.Loss, 1e-4);     // four windows
    }

    [Fact]
    public void A_NaN_stays_in_the_memory_until_the_stream_is_reset()
    {
        using var noGrad = no_grad();
        var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        using var streamer = new SegmentStreamer(layer);
        var (bad, good) = (full(1, 4, 8, float.NaN), randn(1, 4, 8));
        streamer.Forward(bad);
        Assert.True(streamer.Forward(good).isnan().all().item<bool>());
        var report = streamer.Report();

        #region where a NaN is
        foreach (var state in report)
        {
            Console.WriteLine($"{state.Layer}: M {string.Join(" ", state.MemoryNorms)}, least of z {string.Join(" ", state.SmallestNormalizers)}");
        }
        #endregion

        Assert.All(report[0].MemoryNorms, norm => Assert.True(double.IsNaN(norm)));
        streamer.Reset();
        Assert.False(streamer.Forward(good).isnan().any().item<bool>());
        layer.Dispose();
    }

    [Fact]
    public void A_stream_with_gradients_keeps_every_graph()
    {
        using var streamer = new SegmentStreamer(model);
        Assert.True(streamer.Forward(LanguageModel.Tokens(1, 20)).requires_grad);
        streamer.Reset();
        var tokens = LanguageModel.Tokens(1, 20);

        #region reading without gradients
        model.eval();
        using var reading = no_grad();
        for (var i = 0L; i < tokens.size(1); i++)
        {
            using var step = NewDisposeScope();                 // frees the logits of this step
            var logits = streamer.Forward(tokens.narrow(1, i, 1));
        }
        #endregion

        Assert.Equal(20, streamer.Position);
    }

    [Theory]
    [InlineData(8, false)]
    [InlineData(9, true)]
    public void Gates_learn_from_a_second_segment_on(long length, bool moves)
    {
        model.call(LanguageModel.Tokens(1, length)).pow(2).sum().backward();
        var gradient = InfiniAttentionModule.GateParameters(model)[0].grad;
        Assert.Equal(moves, gradient is not null && gradient.abs().sum().item<float>() > 0);
    }

    [Fact]
    public void A_converted_model_has_other_parameters()
    {
        var before = InfiniAttentionModule.GateParameters(model)[0].Handle;
        model.to(float64);
        Assert.NotEqual(before, InfiniAttentionModule.GateParameters(model)[0].Handle);
    }

    [Fact]
    public void A_stream_that_was_not_reset()
    {
        using var noGrad = no_grad();
        using var streamer = new SegmentStreamer(model);
        var (first, second) = (LanguageModel.Tokens(2, 20), LanguageModel.Tokens(1, 20));
        streamer.Forward(first);
        IsShown(Assert.Throws<ArgumentException>(() => streamer.Forward(second)));

        streamer.Forward(first);                                // as many rows: no message, and another result
        Assert.False(model.call(first).allclose(streamer.Forward(first), 1e-4, 1e-5));
        streamer.Reset();
        Assert.True(model.call(first).allclose(streamer.Forward(first), 1e-4, 1e-5));
    }

    [Fact]
    public void Backward_a_second_time()
    {
        using var streamer = new SegmentStreamer(model);
        var tokens = LanguageModel.Tokens(1, 32);
        streamer.Forward(tokens).sum().backward();
        var error = Assert.ThrowsAny<Exception>(() => streamer.Forward(tokens).sum().backward());
        Assert.StartsWith("Trying to backward through the graph a second time", error.Message, StringComparison.Ordinal);
        Assert.Contains("Trying to backward through the graph a second time", Repository.Read(Page), StringComparison.Ordinal);

        streamer.Reset();
        streamer.Forward(tokens).sum().backward();
        streamer.Detach();
        streamer.Forward(tokens).sum().backward();
    }

    [Fact]
    public async Task Another_thread_inside_an_activation()
    {
        using var streamer = new SegmentStreamer(model);
        var tokens = LanguageModel.Tokens(1, 10);
        Task other;
        using (streamer.Activate())
        {
            other = Task.Run(() => model.call(tokens));
            SpinWait.SpinUntil(() => other.IsCompleted);        // not Wait, which may run the task on this thread
        }

        IsShown(await Assert.ThrowsAsync<InvalidOperationException>(() => other));

        #region a thread for the whole activation
        await Task.Run(() =>
        {
            using (streamer.Activate())                         // begins, computes and ends on one thread
            {
                model.call(tokens).Dispose();
            }
        });
        #endregion

        Assert.Equal(10, streamer.Position);
    }

    [Fact]
    public void A_mask_in_which_1_means_keep()
    {
        var (tokens, attentionMask) = (LanguageModel.Tokens(2, 6), tensor(new long[,] { { 1, 1, 1, 1, 1, 1 }, { 1, 1, 1, 1, 0, 0 } }));
        using var streamer = new SegmentStreamer(model);
        IsShown(Assert.Throws<ArgumentException>(() => streamer.Forward(tokens, new TokenInfo { KeyPaddingMask = attentionMask })));

        #region a mask of Hugging Face
        var logits = streamer.Forward(tokens, TokenInfo.FromAttentionMask(attentionMask));
        #endregion

        Assert.Equal(6, streamer.Position);
        Assert.Equal([2, 6, LanguageModel.Vocabulary], logits.shape);
    }

    [Fact]
    public void Modules_that_are_not_registered()
    {
        IsShown(Assert.Throws<ArgumentException>(() => new SegmentStreamer(new Unregistered())));
        using var half = new HalfRegistered();
        using var streamer = new SegmentStreamer(half);
        IsShown(Assert.Throws<InvalidOperationException>(() => streamer.Forward(randn(1, 3, 8))));
    }

    [Fact]
    public void Another_type_than_the_layers()
    {
        var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 }, dtype: ScalarType.BFloat16);
        IsShown(Assert.Throws<ArgumentException>(() => layer.call(randn(1, 5, 8))));
        layer.Dispose();
    }

    private static void IsShown(Exception error) => Assert.Contains($"\n{error.Message}\n", Repository.Read(Page), StringComparison.Ordinal);

    private static Tensor InPieces(nn.Module<Tensor, Tensor> model, Tensor tokens)
    {
        using var streamer = new SegmentStreamer(model);
        return cat([streamer.Forward(tokens.narrow(1, 0, 11)), streamer.Forward(tokens.narrow(1, 11, 19))], 1);
    }

    private sealed class Positions : nn.Module<Tensor, Tensor>
    {
        private readonly Embedding words = nn.Embedding(LanguageModel.Vocabulary, 16);
        private readonly Embedding positions = nn.Embedding(64, 16);
        private readonly InfiniAttentionModule attention = new(new() { EmbedDim = 16, NumHeads = 2, SegmentLength = 8 });

        public Positions()
            : base(nameof(Positions)) => RegisterComponents();

        public bool FromTheStream { get; set; } = true;

        public override Tensor forward(Tensor tokens)
        {
            var first = FromTheStream ? SegmentStreamer.Current?.Position ?? 0 : 0;
            return attention.call(words.call(tokens) + positions.call(arange(first, first + tokens.size(1), int64)));
        }
    }

    private sealed class Unregistered : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule attention = new(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });

        public Unregistered()
            : base(nameof(Unregistered))
        {
        }

        public override Tensor forward(Tensor x) => attention.call(x);
    }

    private sealed class HalfRegistered : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule first = new(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        private readonly List<InfiniAttentionModule> others = [new(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 })];

        public HalfRegistered()
            : base(nameof(HalfRegistered)) => RegisterComponents();

        public override Tensor forward(Tensor x) => others.Aggregate(first.call(x), (y, layer) => layer.call(y));
    }
}
