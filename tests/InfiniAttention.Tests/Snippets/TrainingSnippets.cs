using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

public sealed class TrainingSnippets : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();
    private readonly LanguageModel model = new();

    public TrainingSnippets() => random.manual_seed(7);

    public void Dispose()
    {
        model.Dispose();
        scope.Dispose();
    }

    [Fact]
    public void A_gates_group_and_back_propagation_window_by_window()
    {
        var tokens = LanguageModel.Tokens(2, 65);
        var batches = Enumerable.Repeat((tokens.narrow(1, 0, 64), tokens.narrow(1, 1, 64)), 30);
        var before = Loss();

        #region train
        var optimizer = optim.AdamW(
        [
            new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(model), lr: 1e-2, weight_decay: 0),
            new AdamW.ParamGroup(InfiniAttentionModule.OtherParameters(model), lr: 3e-3, weight_decay: 0.1),
        ]);

        model.train();
        using var streamer = new SegmentStreamer(model) { WindowTokens = 16 };     // 16 tokens of the graph at a time
        foreach (var (inputs, targets) in batches)                                 // T of any length
        {
            optimizer.zero_grad();
            streamer.Reset();
            var result = streamer.Backpropagate(inputs, targets, (logits, target) =>
                nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction: nn.Reduction.None)); // one number a token
            Console.WriteLine($"loss {result.Loss:F2}");                           // the mean over all tokens
            nn.utils.clip_grad_norm_(model.parameters(), 1.0);
            optimizer.step();
        }
        #endregion

        Assert.True(Loss() < 0.9 * before, $"the loss went from {before} to {Loss()}");

        float Loss() => nn.functional.cross_entropy(model.call(tokens.narrow(1, 0, 64)).flatten(0, 1), tokens.narrow(1, 1, 64).flatten()).item<float>();
    }

    [Fact]
    public void The_gradient_is_that_of_the_whole_sequence()
    {
        var tokens = LanguageModel.Tokens(2, 65);
        var (inputs, targets) = (tokens.narrow(1, 0, 64), tokens.narrow(1, 1, 64));

        #region ordinary
        var loss = nn.functional.cross_entropy(model.call(inputs).flatten(0, 1), targets.flatten(), reduction: nn.Reduction.Sum);
        loss.backward();
        #endregion

        var expected = model.parameters().Select(parameter => parameter.grad!.clone()).ToArray();
        model.zero_grad();
        using var streamer = new SegmentStreamer(model) { WindowTokens = 8 };
        var windowed = streamer.Backpropagate(inputs, targets, (logits, target) =>
            nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction: nn.Reduction.Sum), LossReduction.Sum);
        Assert.Equal(loss.item<float>(), windowed.Loss, 1e-3);
        Assert.All(model.parameters().Zip(expected), pair => Assert.True(pair.First.grad!.allclose(pair.Second, 1e-4, 1e-4)));
    }

    [Fact]
    public void Truncated_back_propagation()
    {
        var optimizer = optim.SGD(model.parameters(), 0.01);
        var tokens = LanguageModel.Tokens(1, 65);
        var pieces = Enumerable.Range(0, 4).Select(i => (tokens.narrow(1, 16 * i, 16), tokens.narrow(1, (16 * i) + 1, 16)));

        #region truncated
        using var streamer = new SegmentStreamer(model);
        foreach (var (inputs, targets) in pieces)
        {
            using var piece = NewDisposeScope();
            optimizer.zero_grad();
            var logits = streamer.Forward(inputs);
            nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward();
            optimizer.step();
            streamer.Detach();                        // the memory stays, its graph ends here
        }
        #endregion

        Assert.Equal(64, streamer.Position);
    }

    [Fact]
    public void Gradients_over_several_calls()
    {
        var (first, second) = (LanguageModel.Tokens(1, 20), LanguageModel.Tokens(1, 5));

        #region graph over calls
        using var streamer = new SegmentStreamer(model);
        var before = streamer.Forward(first);         // with gradients on, the state keeps the graph
        var after = streamer.Forward(second);
        after.sum().backward();                       // reaches what the first call wrote to the memory
        #endregion

        Assert.Equal([1, 20, LanguageModel.Vocabulary], before.shape);
        Assert.All(model.parameters(), parameter => Assert.NotNull(parameter.grad));
    }

    [Fact]
    public void Packed_and_padded_batches()
    {
        var packed = LanguageModel.Tokens(2, 24);
        var targets = LanguageModel.Tokens(2, 24);

        #region packed batches
        var starts = zeros(2, 24, @bool);
        starts[0, 10] = tensor(true);                 // row 0 holds two documents: tokens 0-9 and 10-23
        var padding = zeros(2, 24, @bool);
        padding[1, 18..] = tensor(true);              // row 1 holds one of 18 tokens
        var info = new TokenInfo { KeyPaddingMask = padding, DocumentStarts = starts };

        using var streamer = new SegmentStreamer(model);
        streamer.Backpropagate(packed, targets.masked_fill(padding, -100), (logits, target) =>
            nn.functional.cross_entropy(logits.transpose(1, 2), target, reduction: nn.Reduction.None), info: info);
        #endregion

        Assert.Equal(24, streamer.Position);
    }

    [Fact]
    public void A_memory_that_recalls()
    {
        #region a memory that recalls
        var layer = new InfiniAttentionModule(new InfiniAttentionOptions
        {
            EmbedDim = 64,
            NumHeads = 4,
            SegmentLength = 16,
            Rotary = new RotaryOptions(),
            Update = MemoryUpdate.Delta,
            MemoryNorm = true,
        });
        #endregion

        Assert.Equal(8, layer.state_dict().Count);
        layer.Dispose();
    }

    [Fact]
    public void What_the_memory_is_worth()
    {
        var tokens = LanguageModel.Tokens(2, 65);
        var gates = model.state_dict()["attention.gate"];
        using var before = gates.clone();

        #region what the memory is worth
        using var evaluation = no_grad();
        var kept = InfiniAttentionModule.GateParameters(model).Select(gate => (gate, beta: gate.clone())).ToArray();
        var with = Loss();
        foreach (var (gate, _) in kept)
        {
            gate.fill_(-30);                                            // a share of 1e-13: local attention alone
        }

        var without = Loss();
        foreach (var (gate, beta) in kept)
        {
            gate.copy_(beta);
        }

        Console.WriteLine($"loss {with:F3}, with the memory off {without:F3}");
        #endregion

        Assert.NotEqual(with, without);
        Assert.Equal(with, Loss());
        Assert.Equal(0, (gates - before).abs().max().item<float>());

        float Loss() => nn.functional.cross_entropy(model.call(tokens.narrow(1, 0, 64)).flatten(0, 1), tokens.narrow(1, 1, 64).flatten()).item<float>();
    }

    [Fact]
    public void Write_weights()
    {
        var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        var x = randn(1, 12, 8);

        #region write weights
        var score = nn.Linear(8, 1);
        var weights = score.call(x).sigmoid().squeeze(-1);              // (B, T), learned
        var y = layer.forward(x, new TokenInfo { WriteWeights = weights });
        y.pow(2).sum().backward();
        #endregion

        Assert.True(score.weight!.grad!.abs().sum().item<float>() > 0);
        score.Dispose();
        layer.Dispose();
    }
}
