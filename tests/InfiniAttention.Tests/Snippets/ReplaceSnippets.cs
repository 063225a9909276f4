using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

/// <summary>A block of a TorchSharp transformer before and after its attention was replaced.</summary>
public class ReplaceSnippets
{
    [Fact]
    public void A_block_keeps_its_signature()
    {
        using var scope = NewDisposeScope();
        using var before = new Before.Block(64, 4);
        using var after = new After.Block(64, 4, 16);
        var x = randn(2, 40, 64);
        Assert.Equal(before.call(x).shape, after.call(x).shape);
    }

    [Fact]
    public void A_layer_in_itself()
    {
        using var scope = NewDisposeScope();

        #region a layer
        var layer = new InfiniAttentionModule(new InfiniAttentionOptions
        {
            EmbedDim = 64,                    // D
            NumHeads = 4,                     // H
            SegmentLength = 16,               // N
            NumKeyValueHeads = 2,             // G: grouped queries; default H
            Update = MemoryUpdate.Delta,      // equation 9; default Linear, equation 8
            Rotary = new RotaryOptions(),     // default: no position encoding
        });

        var y = layer.call(randn(2, 100, 64));           // (B, T, D) -> (B, T, D), T of any length
        #endregion

        Assert.Equal([2, 100, 64], y.shape);
    }

    [Fact]
    public void Weights_taken_over()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();

        #region take over
        var trained = nn.MultiheadAttention(64, 4);                                    // the attention of a trained block
        var options = new InfiniAttentionOptions { EmbedDim = 64, NumHeads = 4, SegmentLength = 16 };
        var attention = InfiniAttentionModule.From(trained, options);                  // nn.MultiheadAttention
        var layout = AttentionWeights.Load(attention, trained.state_dict());           // or any of six layouts, by their names
        #endregion

        trained.eval();
        attention.eval();
        var x = randn(16, 2, 64);
        var (expected, _) = trained.call(x, x, x, null, false, full(16, 16, float.NegativeInfinity).triu(1));
        Assert.Equal(AttentionLayout.TorchMultihead, layout);
        Assert.True(expected.transpose(0, 1).allclose(attention.call(x.transpose(0, 1)), 1e-4, 1e-5));
        attention.Dispose();
        trained.Dispose();
    }

    private static class Before
    {
        #region a block before
        public sealed class Block : nn.Module<Tensor, Tensor>
        {
            private readonly LayerNorm norm;
            private readonly MultiheadAttention attention;

            public Block(long width, long heads)
                : base(nameof(Block))
            {
                norm = nn.LayerNorm(width);
                attention = nn.MultiheadAttention(width, heads);
                RegisterComponents();
            }

            public override Tensor forward(Tensor x)                 // (B, T, D)
            {
                var y = norm.call(x).transpose(0, 1);                // it wants (T, B, D)
                var future = full(y.shape[0], y.shape[0], float.NegativeInfinity, y.dtype, y.device).triu(1);
                return x + attention.call(y, y, y, null, false, future).Item1.transpose(0, 1);
            }
        }
        #endregion
    }

    private static class After
    {
        #region a block after
        public sealed class Block : nn.Module<Tensor, Tensor>
        {
            private readonly LayerNorm norm;
            private readonly InfiniAttentionModule attention;

            public Block(long width, long heads, long segment)
                : base(nameof(Block))
            {
                norm = nn.LayerNorm(width);
                attention = new InfiniAttentionModule(new InfiniAttentionOptions { EmbedDim = width, NumHeads = heads, SegmentLength = segment, Bias = true });
                RegisterComponents();
            }

            public override Tensor forward(Tensor x) => x + attention.call(norm.call(x));
        }
        #endregion
    }
}
