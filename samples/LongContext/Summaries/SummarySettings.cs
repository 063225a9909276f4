using LongContext.Comparison;
using LongContext.LanguageModel;

namespace LongContext.Summaries;

/// <summary>A training of summaries: what is read, and for how long.</summary>
public sealed record SummarySettings
{
    /// <summary>A file of pairs; null for generated ones.</summary>
    public string? Pairs { get; init; }

    /// <summary>A file of pairs that are in no training, for the evaluation; null for generated ones.</summary>
    public string? HeldOutPairs { get; init; }

    public required DecoderOptions Sizes { get; init; }

    public int Seed { get; init; } = 1;

    /// <summary>Steps of the first phase, on inputs of one segment, in which the memory is empty.</summary>
    public int BaseSteps { get; init; } = 600;

    /// <summary>Steps of the second phase, on inputs of several segments.</summary>
    public int Steps { get; init; } = 1400;

    /// <summary>Tokens of the longest inputs.</summary>
    public int Longest { get; init; } = 2048;

    public double Rate { get; init; } = 4e-3;

    /// <summary>Whether the model is trained without its memory: with closed gates, it is one with local attention alone.</summary>
    public bool IsLocal { get; init; }

    private int Segment => (int)Sizes.SegmentLength;

    /// <summary>
    /// The tokens of each input of a step. After the base the longest of them grows in equal parts of the steps, doubling from two segments on, over the first half; lengths are
    /// drawn from all powers of two up to it, so that later steps still read shorter inputs.
    /// </summary>
    public int LengthOf(int step)
    {
        if (step < BaseSteps)
        {
            return Segment;
        }

        var doublings = (int)Math.Log2(Longest / Segment);
        var grown = Math.Min(doublings, 1 + ((step - BaseSteps) * 2 * doublings / Math.Max(1, Steps)));
        return Segment << (doublings == 0 ? 0 : Corpus.RandomOf(Seed, -1L - step).Next(1, grown + 1));
    }
}
