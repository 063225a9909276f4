using InfiniAttention;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext;

/// <summary>The shape of an <see cref="InfiniTransformer"/>.</summary>
public sealed record InfiniTransformerOptions
{
    public long Vocabulary { get; init; } = 256;
    public long Width { get; init; } = 64;
    public long Heads { get; init; } = 2;
    public long SegmentLength { get; init; } = 128;
    public MemoryUpdate Update { get; init; }
    public MemoryVariant Memory { get; init; } = MemoryVariant.Paper;

    /// <summary>The initial gates (beta, one per head) of each layer; their number is the number of layers.</summary>
    public IReadOnlyList<IReadOnlyList<float>> InitialGates { get; init; } = [[-4, -4], [-2, 2]];

    public long Layers => InitialGates.Count;
}

/// <summary>
/// A small decoder-only language model over bytes: embedding, pre-norm blocks of Infini-attention and MLP, head.
/// It does not know about streams; read through a <see cref="SegmentStreamer"/> it has an unbounded context.
/// B batch, T tokens, D model width.
/// </summary>
public sealed class InfiniTransformer : nn.Module<Tensor, Tensor>
{
    private readonly Embedding embedding;
    private readonly ModuleList<nn.Module<Tensor, Tensor>> blocks;
    private readonly RootMeanSquareNorm norm;
    private readonly Linear head;

    public InfiniTransformer(InfiniTransformerOptions options) : base(nameof(InfiniTransformer))
    {
        Options = options;
        embedding = nn.Embedding(options.Vocabulary, options.Width);
        blocks = nn.ModuleList(options.InitialGates
            .Select(nn.Module<Tensor, Tensor> (gates) => new Block(options, gates)).ToArray());
        norm = new RootMeanSquareNorm(options.Width);
        head = nn.Linear(options.Width, options.Vocabulary, hasBias: false);
        nn.init.normal_(embedding.weight!, 0, 0.5);
        nn.init.normal_(head.weight!, 0, 0.02);
        RegisterComponents();
    }

    public InfiniTransformerOptions Options { get; }

    /// <summary>Logits of the next token after each of <paramref name="tokens"/>: (B, T) to (B, T, vocabulary).</summary>
    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = embedding.call(tokens); // (B, T, D)
        foreach (var block in blocks)
        {
            x = block.call(x);
        }

        return head.call(norm.call(x)).MoveToOuterDisposeScope();
    }

    private sealed class Block : nn.Module<Tensor, Tensor>
    {
        private readonly RootMeanSquareNorm attention_norm, mlp_norm;
        private readonly InfiniAttentionModule attention;
        private readonly Linear up, down;

        public Block(InfiniTransformerOptions options, IReadOnlyList<float> gates) : base(nameof(Block))
        {
            var width = options.Width;
            attention_norm = new RootMeanSquareNorm(width);
            mlp_norm = new RootMeanSquareNorm(width);
            attention = new InfiniAttentionModule(options.Memory.Apply(new InfiniAttentionOptions
            {
                EmbedDim = width,
                NumHeads = options.Heads,
                SegmentLength = options.SegmentLength,
                Update = options.Update,
                Rotary = new RotaryOptions(),
            }));
            up = nn.Linear(width, 2 * width);
            down = nn.Linear(2 * width, width);
            Initialize(options.Layers, gates);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            x = x.add(attention.call(attention_norm.call(x)), Numbers.One);
            x = x.add(down.call(nn.functional.gelu(up.call(mlp_norm.call(x)))), Numbers.One);
            return x.MoveToOuterDisposeScope();
        }

        /// <summary>Projections that add to the residual stream start smaller, by the square root of the number of additions.</summary>
        private void Initialize(long layers, IReadOnlyList<float> gates)
        {
            InitialProjections.Draw(layers, attention.named_parameters());
            nn.init.normal_(up.weight!, 0, InitialProjections.Deviation(up.weight!, 1));
            nn.init.normal_(down.weight!, 0, InitialProjections.Deviation(down.weight!, 2 * layers));
            nn.init.zeros_(up.bias!);
            nn.init.zeros_(down.bias!);
            using var _ = no_grad();
            using var values = tensor(gates.ToArray());
            attention.Gate.copy_(values);
        }
    }
}

/// <summary>Root-mean-square normalisation with a learned scale: x / sqrt(mean(x^2) + 1e-6) * weight.</summary>
public sealed class RootMeanSquareNorm : nn.Module<Tensor, Tensor>
{
    // Created once: an implicitly converted number is a native object that lives until a garbage collection.
    private static readonly Scalar Epsilon = 1e-6;

    private readonly Parameter weight;

    public RootMeanSquareNorm(long width) : base(nameof(RootMeanSquareNorm))
    {
        weight = new Parameter(ones(width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var scale = rsqrt((x * x).mean([-1], keepdim: true).add_(Epsilon, Numbers.One));
        return (x * scale * weight).MoveToOuterDisposeScope();
    }
}
