using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A whole small language model: embedding, pre-norm blocks of attention and MLP, head. Tokens (B,T) in, logits (B,T,W) out.</summary>
internal sealed class TinyLanguageModel : nn.Module<Tensor, Tensor>
{
    public const int Words = 11;

    private readonly Embedding embedding;
    private readonly ModuleList<Block> blocks = [];
    private readonly Linear head;

    public TinyLanguageModel(InfiniAttentionOptions options, int depth)
        : base(nameof(TinyLanguageModel))
    {
        embedding = nn.Embedding(Words, options.EmbedDim);
        for (int i = 0; i < depth; i++)
        {
            blocks.Add(new Block(options));
        }

        head = nn.Linear(options.EmbedDim, Words);
        RegisterComponents();
        this.to(ScalarType.Float64);
    }

    /// <summary>The summed cross-entropy, which is what <see cref="SegmentStreamer.Backpropagate"/> sums over windows.</summary>
    public static Tensor Loss(Tensor scores, Tensor target) =>
        nn.functional.cross_entropy(scores.reshape(-1, Words), target.reshape(-1), reduction: nn.Reduction.Sum);

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        Tensor x = embedding.call(tokens);
        foreach (Block block in blocks)
        {
            x = block.call(x);
        }

        return head.call(x).MoveToOuterDisposeScope();
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly LayerNorm norm;
        private readonly InfiniAttentionModule attention;
        private readonly Linear up;
        private readonly Linear down;
        private readonly double dropout;

        public Block(InfiniAttentionOptions options)
            : base(nameof(Block))
        {
            norm = nn.LayerNorm(options.EmbedDim);
            attention = new InfiniAttentionModule(options);
            up = nn.Linear(options.EmbedDim, 2 * options.EmbedDim);
            down = nn.Linear(2 * options.EmbedDim, options.EmbedDim);
            dropout = options.Dropout;
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            x = x + attention.call(norm.call(x));
            x = x + nn.functional.dropout(down.call(nn.functional.gelu(up.call(x))), dropout, training);
            return x.MoveToOuterDisposeScope();
        }
    }
}
