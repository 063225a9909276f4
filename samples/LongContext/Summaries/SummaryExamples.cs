using LongContext.Comparison;

namespace LongContext.Summaries;

/// <summary>Examples to train on.</summary>
public abstract class SummaryExamples(SummaryEncoding encoding)
{
    public SummaryEncoding Encoding => encoding;

    /// <summary>An example of at most that many tokens; the same seed and number give the same one.</summary>
    public abstract SummaryExample Training(int seed, long number, int tokens);

    public static SummaryExamples Of(SummaryEncoding encoding, IEnumerable<SummaryPair>? pairs) => pairs is null ? new YearBookExamples(encoding) : new GivenExamples(encoding, pairs);
}

/// <summary>Examples from generated texts.</summary>
public sealed class YearBookExamples(SummaryEncoding encoding) : SummaryExamples(encoding)
{
    private const int FirstHeldOut = 1_000_000_000, Alignments = 128;

    /// <summary>Texts that an encoding can be learned from.</summary>
    public static IEnumerable<SummaryPair> Samples(int count) => Enumerable.Range(0, count).Select(seed => YearBook.Create(seed, YearBook.MostFacts, filler: 2000, sentence => sentence.Length));

    public override SummaryExample Training(int seed, long number, int tokens)
    {
        var random = Corpus.RandomOf(seed, number);
        var (story, most) = (random.Next(FirstHeldOut), random.Next(YearBook.FewestFacts, YearBook.MostFacts + 1));
        for (var facts = most; facts > 0; facts--)
        {
            if (tokens - Length(YearBook.Create(story, facts, 0, Measure)) is >= 0 and var room)
            {
                // Less filler than there is room for, so that the answer begins anywhere in a segment.
                var pair = YearBook.Create(story, facts, room - random.Next(1 + Math.Min(room / 2, Alignments)), Measure);
                return new(Encoding.Prompt(Encoding.Encode(pair.Text)), Encoding.Answer(pair.Summary));
            }
        }

        throw new InputException($"A training input of {tokens} tokens is too short for a fact and its summary: give a longer --segment or a larger --vocabulary.");
    }

    /// <summary>Pairs that are in no training, of about that many tokens with prompt and summary.</summary>
    public IReadOnlyList<SummaryPair> HeldOut(int count, int tokens) => [.. Enumerable.Range(FirstHeldOut, count).Select(seed =>
    {
        var facts = YearBook.FewestFacts + (seed % (YearBook.MostFacts - YearBook.FewestFacts + 1));
        return YearBook.Create(seed, facts, Math.Max(0, tokens - Length(YearBook.Create(seed, facts, 0, Measure))), Measure);
    })];

    private int Length(SummaryPair pair) => Encoding.Prompt(Encoding.Encode(pair.Text)).Length + Encoding.Answer(pair.Summary).Length;

    private int Measure(string sentence) => Encoding.Encode(sentence).Length;
}

/// <summary>Examples from the pairs of a file: the first part of a text, as long as it fits, with its summary.</summary>
public sealed class GivenExamples(SummaryEncoding encoding, IEnumerable<SummaryPair> pairs) : SummaryExamples(encoding)
{
    private readonly (ushort[] Text, ushort[] Answer)[] encoded = [.. pairs.Select(pair => (encoding.Encode(pair.Text), encoding.Answer(pair.Summary)))];

    public override SummaryExample Training(int seed, long number, int tokens)
    {
        var (text, answer) = encoded[Corpus.RandomOf(seed, number).Next(encoded.Length)];
        var shown = answer[..Math.Min(answer.Length, tokens / 2)]; // of a short input at most half
        return new(Encoding.Prompt(text.Take(tokens - shown.Length - Encoding.Prompt([]).Length)), shown);
    }
}
