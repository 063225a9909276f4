using LongContext.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>
/// The sum of a token's embedding and of those of the two before it, each mapped by a matrix of its own: (B, T, 3) to (B, T, D). A layer of attention need not learn first to
/// look at the neighbours of a token.
/// </summary>
public sealed class NeighbourEmbedding : DecoderEmbedding
{
    /// <summary>How many earlier tokens the embedding of a position includes.</summary>
    public const int Before = 2;

    private readonly Embedding embedding;
    private readonly ModuleList<Linear> previous;
    private readonly long vocabulary, width;
    private readonly Scalar scale;

    public NeighbourEmbedding(long vocabulary, long width) : base(nameof(NeighbourEmbedding))
    {
        (this.vocabulary, this.width) = (vocabulary, width);
        scale = 0.5 * Math.Sqrt(width);
        embedding = nn.Embedding(vocabulary, width);
        previous = nn.ModuleList(Enumerable.Range(0, Before).Select(_ => nn.Linear(width, width, hasBias: false)).ToArray());
        RegisterComponents();
    }

    public override Parameter Weight => embedding.weight!;

    /// <summary>Draws the weights.</summary>
    public void Draw()
    {
        var deviation = Math.Pow(width, -0.5);
        nn.init.normal_(embedding.weight!, 0, deviation);
        foreach (var map in previous)
        {
            nn.init.normal_(map.weight!, 0, 0.7 * deviation);
        }
    }

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        const int Maps = 1 + Before;
        var table = cat([embedding.weight!, .. previous.Select(map => map.call(embedding.weight!)), zeros(1, width)], 0);
        var none = full([1], Maps * vocabulary, int64); // the row of zeros
        var places = where(tokens.lt(Numbers.Zero), none, tokens.add(arange(0, Maps * vocabulary, vocabulary, int64), Numbers.One));
        return Rows(table, places.flatten(1)).view(tokens.size(0), tokens.size(1), Maps, width).sum(dim: 2).mul(scale).MoveToOuterDisposeScope();
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            scale.Dispose();
        }

        base.Dispose(disposing);
    }
}
