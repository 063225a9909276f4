using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

/// <summary>The model that the snippets train and stream. It does not know about streams.</summary>
internal sealed class LanguageModel : nn.Module<Tensor, Tensor>
{
    public const long Vocabulary = 32;

    private readonly Embedding embedding = nn.Embedding(Vocabulary, 16);
    private readonly InfiniAttentionModule attention;
    private readonly Linear head = nn.Linear(16, Vocabulary);

    public LanguageModel(double dropout = 0)
        : base(nameof(LanguageModel))
    {
        attention = new(new() { EmbedDim = 16, NumHeads = 2, SegmentLength = 8, Dropout = dropout, Rotary = new() });
        RegisterComponents();
    }

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var x = embedding.call(tokens);
        return head.call(x + attention.call(x)).MoveToOuterDisposeScope();
    }

    public static Tensor Tokens(long rows, long length) => randint(Vocabulary, [rows, length], int64);
}
