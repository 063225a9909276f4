using LongContext.LanguageModel;

namespace LongContext.Summaries;

/// <summary>What was written after a part of a text was read.</summary>
/// <param name="Percent">How much of the text was read.</param>
/// <param name="HasMemory">Whether the model had its memory.</param>
/// <param name="Written">The summary that the model wrote.</param>
/// <param name="Reference">The text's own summary.</param>
/// <param name="Told">How many facts the part told, of those in the summary; null for a text whose facts are not known.</param>
public sealed record SummaryResult(double Percent, bool HasMemory, string Written, string Reference, int? Told)
{
    public RougeScores Scores { get; } = RougeScores.Of(Written, Reference);

    /// <summary>The share of the facts that the part told.</summary>
    public double? Ceiling => Told is { } told ? (double)told / SummaryPair.LinesOf(Reference).Count : null;

    /// <summary>The share of the facts that were written word for word.</summary>
    public double? Right => Told is null ? null : (double)SummaryPair.LinesOf(Reference).Intersect(SummaryPair.LinesOf(Written)).Count() / SummaryPair.LinesOf(Reference).Count;
}

/// <summary>Writes the summaries of texts of which more and more is read, with the memory, if the model has one, and without it.</summary>
public sealed class SummaryEvaluation(IReadOnlyList<SummaryPair> pairs, IReadOnlyList<double> percents, bool knowsFacts, bool isLocal)
{
    /// <summary>How many summaries are written.</summary>
    public int Count => (isLocal ? 1 : 2) * pairs.Count * percents.Count;

    /// <param name="model">The model, whose gates are closed afterwards.</param>
    /// <param name="write">Writes the summary of a text.</param>
    /// <param name="done">Called after each.</param>
    /// <param name="cancellation">Ends the evaluation.</param>
    public IReadOnlyList<SummaryResult> Run(ContextDecoder model, Func<string, string> write, Action done, CancellationToken cancellation)
    {
        var results = new List<SummaryResult>();
        foreach (var hasMemory in isLocal ? [false] : new[] { true, false })
        {
            if (!hasMemory)
            {
                model.CloseGates();
            }

            foreach (var (percent, pair) in percents.SelectMany(percent => pairs.Select(pair => (percent, pair))).TakeWhile(_ => !cancellation.IsCancellationRequested))
            {
                var part = pair.FirstPart(percent / 100);
                var told = knowsFacts ? pair.Lines.Count(line => part.Contains(line, StringComparison.Ordinal)) : (int?)null;
                results.Add(new(percent, hasMemory, write(part), pair.Summary, told));
                done();
            }
        }

        return results;
    }
}
