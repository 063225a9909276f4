using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

/// <summary>Models that are more than a block, before and after: the same outputs up to the first boundary, and what has changed in state_dict.</summary>
public sealed class WholeModelSnippets : IDisposable
{
    private const long D = 48, Heads = 4, KeyHeads = 2, N = 16;

    private readonly DisposeScope scope = NewDisposeScope();
    private readonly IDisposable noGrad = no_grad();

    public WholeModelSnippets() => random.manual_seed(7);

    public void Dispose()
    {
        noGrad.Dispose();
        scope.Dispose();
    }

    [Fact]
    public void Transformer_encoder()
    {
        var encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, Heads, 96, dropout: 0), 2);

        #region nn.TransformerEncoder loaded
        var model = new InfiniEncoder(depth: 2, width: 48, heads: 4, inner: 96);
        var loaded = AttentionWeights.LoadModel(model, encoder.state_dict());
        #endregion

        encoder.eval();
        model.eval();
        var x = randn(N, 2, D);
        AreTheSame(encoder.call(x, PlainBlock.CausalMask(N, x.dtype), null!), model.call(x));
        Assert.Equal(["layers.0.self_attn.attention.gate", "layers.1.self_attn.attention.gate"], loaded.Missing);
        Assert.Equal(encoder.state_dict().Keys.Concat(loaded.Missing).Order(), model.state_dict().Keys.Order());
    }

    [Fact]
    public void A_key_value_cache()
    {
        var before = new CachedLlamaBlock(D, Heads, KeyHeads);
        var (prompt, token) = (randn(1, 9, D), randn(1, 1, D));
        var cache = new KeyValueCache();
        before.call(prompt, cache);
        var expected = before.call(token, cache);

        #region a cache replaced
        var block = new StreamedLlamaBlock(48, 4, 2);
        AttentionWeights.LoadModel(block, before.state_dict());

        using var stream = new SegmentStreamer(block);
        stream.Forward(prompt);                                                 // was before.call(prompt, cache)
        var next = stream.Forward(token);                                       // was before.call(token, cache)
        #endregion

        AreTheSame(expected, next);
        Assert.Equal(["self_attn.gate"], block.state_dict().Keys.Except(before.state_dict().Keys));
    }

    [Fact]
    public void NanoGpt()
    {
        var before = new NanoGpt(64, 32, D, Heads);

        #region nanoGPT loaded
        var model = new InfiniNanoGpt(vocabulary: 64, positions: 32, width: 48, heads: 4);
        model.LoadNanoGpt(before.state_dict());
        #endregion

        model.LoadNanoGpt(before.state_dict().Append(new("attn.bias", ones(1, 1, 32, 32).tril())).ToDictionary());

        var tokens = randint(64, [2, N], int64);
        var expected = before.call(tokens);
        AreTheSame(expected, model.call(tokens));
        using var stream = new SegmentStreamer(model);
        AreTheSame(expected, cat([stream.Forward(tokens.narrow(1, 0, 5)), stream.Forward(tokens.narrow(1, 5, N - 5))], 1));
    }

    [Fact]
    public void GenAI()
    {
        var before = new DecoderLayer(D, Heads, KeyHeads);
        var weights = before.state_dict().ToDictionary(entry => $"model.layers.0.{entry.Key}", entry => entry.Value);

        #region GenAI loaded
        var layer = new InfiniDecoderLayer(48, 4, 2);
        layer.LoadLayer(weights, "model.layers.0");
        #endregion

        var x = randn(2, N, D);
        AreTheSame(before.call(new(x)).HiddenStates, layer.call(new(x)).HiddenStates);
        var padding = zeros(2, N, @bool);
        padding[1, 12..] = true;
        var expected = before.call(new(x, padding)).HiddenStates;

        #region GenAI streamed
        using var stream = new SegmentStreamer(layer);
        using (stream.Activate(new TokenInfo { KeyPaddingMask = padding }))
        {
            var output = layer.call(new(x)).HiddenStates;
            Assert.True(expected[~padding].allclose(output[~padding], 1e-4, 1e-5));
        }
        #endregion

        Assert.Equal(N, stream.Position);
        Assert.Equal(["self_attn.gate"], layer.state_dict().Keys.Except(before.state_dict().Keys));
    }

    private static void AreTheSame(Tensor expected, Tensor actual) =>
        Assert.True(expected.allclose(actual, 1e-4, 1e-5), $"{(expected - actual).abs().max().item<float>()}");
}
