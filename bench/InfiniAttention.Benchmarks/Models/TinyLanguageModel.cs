using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>A decoder of two blocks with Infini-attention, small enough to be trained on a small machine.</summary>
/// <remarks>B batch, T tokens, D model width.</remarks>
internal sealed class TinyLanguageModel : nn.Module<Tensor, Tensor>
{
    public const long Vocabulary = 256;
    public const long SegmentLength = 256;
    private const long Width = 128;
    private const long Heads = 2;
    private const int Depth = 2;

    private readonly Embedding embedding;
    private readonly ModuleList<Block> blocks;
    private readonly LayerNorm norm;
    private readonly Linear head;

    public TinyLanguageModel(Device device)
        : base(nameof(TinyLanguageModel))
    {
        embedding = nn.Embedding(Vocabulary, Width, device: device);
        blocks = nn.ModuleList(Enumerable.Range(0, Depth).Select(_ => new Block(device)).ToArray());
        norm = nn.LayerNorm(Width, device: device);
        head = nn.Linear(Width, Vocabulary, false, device);
        RegisterComponents();
    }

    /// <summary>(B, T) tokens to (B, T, Vocabulary) logits.</summary>
    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = embedding.call(tokens);
        foreach (var block in blocks)
        {
            x = block.call(x);
        }

        return head.call(norm.call(x)).MoveToOuterDisposeScope();
    }

    /// <summary>The cross entropy summed over tokens.</summary>
    public static Tensor Loss(Tensor logits, Tensor targets)
    {
        using var scope = NewDisposeScope();
        return nn.functional.cross_entropy(logits.reshape(-1, Vocabulary), targets.reshape(-1), reduction: nn.Reduction.Sum).MoveToOuterDisposeScope();
    }

    /// <summary>Random tokens and random targets, (1, T) each.</summary>
    public static (Tensor Input, Tensor Target) Sample(long tokens, Device device) =>
        (randint(0, Vocabulary, [1, tokens], int64, device), randint(0, Vocabulary, [1, tokens], int64, device));

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly LayerNorm attention_norm;
        private readonly InfiniAttentionModule attention;
        private readonly LayerNorm mlp_norm;
        private readonly Linear up;
        private readonly Linear down;

        public Block(Device device)
            : base(nameof(Block))
        {
            attention_norm = nn.LayerNorm(Width, device: device);
            attention = new(new() { EmbedDim = Width, NumHeads = Heads, SegmentLength = SegmentLength }, device);
            mlp_norm = nn.LayerNorm(Width, device: device);
            up = nn.Linear(Width, 4 * Width, true, device);
            down = nn.Linear(4 * Width, Width, true, device);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            var attended = x + attention.call(attention_norm.call(x));
            return (attended + down.call(nn.functional.gelu(up.call(mlp_norm.call(attended))))).MoveToOuterDisposeScope();
        }
    }
}
