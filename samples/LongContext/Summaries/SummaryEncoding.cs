using System.Text;
using LongContext.Comparison;

namespace LongContext.Summaries;

/// <summary>Texts and summaries as tokens: byte pairs, and a mark for the end of a summary.</summary>
public sealed class SummaryEncoding(BytePairs pairs)
{
    private const string Question = "\nSummary: ";

    /// <summary>The mark behind a summary.</summary>
    public ushort End => (ushort)pairs.Vocabulary;

    public int Vocabulary => pairs.Vocabulary + 1;

    public BytePairs Pairs => pairs;

    public ushort[] Encode(string text) => pairs.Encode(Encoding.UTF8.GetBytes(text));

    /// <summary>What the model reads before it writes: the text and the word that asks for the summary.</summary>
    public ushort[] Prompt(IEnumerable<ushort> text) => [.. text, .. Encode(Question)];

    public ushort[] Answer(string summary) => [.. Encode(summary), End];

    public string Decode(IEnumerable<ushort> answer) => Encoding.UTF8.GetString(pairs.Decode(answer.TakeWhile(token => token != End)));
}

/// <summary>A prompt with its answer.</summary>
public sealed record SummaryExample(ushort[] Prompt, ushort[] Answer);
