using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>A text as tokens.</summary>
/// <param name="Tokens">The tokens.</param>
/// <param name="LastTold">For each token where the fact that it tells was told before, or a constant below; null for a text of which that is not known.</param>
public sealed record Document(ReadOnlyMemory<ushort> Tokens, int[]? LastTold = null)
{
    /// <summary>The token tells its fact for the first time.</summary>
    public const int Never = -1;

    /// <summary>The token tells no fact.</summary>
    public const int NoFact = -2;
}

/// <summary>Documents of one length that are read side by side.</summary>
public sealed class DocumentBatch(IReadOnlyList<Document> documents)
{
    public int Rows => documents.Count;

    public Document this[int row] => documents[row];

    /// <summary>How many tokens have one behind them.</summary>
    public int Length => documents[0].Tokens.Length - 1;

    /// <summary>(B, length, 3): each token and the two before it, -1 where there is none.</summary>
    public Tensor Inputs(int start, int length)
    {
        const int Width = 1 + NeighbourEmbedding.Before;
        var numbers = new long[Rows * length * Width];
        for (var (row, at) = (0, 0); row < Rows; row++)
        {
            var tokens = documents[row].Tokens.Span;
            for (var place = start; place < start + length; place++)
            {
                for (var back = 0; back < Width; back++, at++)
                {
                    numbers[at] = place >= back ? tokens[place - back] : -1;
                }
            }
        }

        return tensor(numbers, Rows, length, Width);
    }

    /// <summary>(B, length): the token behind each.</summary>
    public Tensor Targets(int start, int length)
    {
        var numbers = new long[Rows * length];
        for (var row = 0; row < Rows; row++)
        {
            var tokens = documents[row].Tokens.Span.Slice(start + 1, length);
            for (var i = 0; i < length; i++)
            {
                numbers[(row * length) + i] = tokens[i];
            }
        }

        return tensor(numbers, Rows, length);
    }
}
