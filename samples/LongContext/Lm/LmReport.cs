using System.Globalization;
using Charts;
using CsvHelper.Configuration.Attributes;
using LongContext.Comparison;
using LongContext.Recall;
using Spectre.Console;

namespace LongContext.Lm;

/// <summary>A row of the file of systems.</summary>
public sealed record LmLine(
    [property: Name("system")] string System,
    [property: Name("seed")] int Seed,
    [property: Name("tokens")] long Tokens,
    [property: Name("numbers_held")] long NumbersHeld,
    [property: Name("perplexity")] double Perplexity,
    [property: Name("bits_per_byte")] double? BitsPerByte,
    [property: Name("perplexity_without_memory")] double? PerplexityWithoutMemory,
    [property: Name("perplexity_cleared_each_segment")] double PerplexityCleared,
    [property: Name("seconds")] double Seconds);

/// <summary>A row of the file of losses: the tokens from a position of the document, or from a place of the segment, on.</summary>
public sealed record LossLine(
    [property: Name("system")] string System,
    [property: Name("seed")] int Seed,
    [property: Name("by")] string By,
    [property: Name("from")] long From,
    [property: Name("count")] long Count,
    [property: Name("nats")] double Nats);

/// <summary>The results of a comparison of language models, as a table, files and charts.</summary>
public sealed class LmReport(IReadOnlyList<ComparisonResult> results)
{
    private readonly bool isText = results.Any(result => result.BytesPerToken is not null);

    private IEnumerable<(ComparedSystem System, ComparisonResult[] Results)> Systems =>
        results.GroupBy(result => result.System).Select(of => (System: ComparedSystem.Named(of.Key), of.ToArray())).OrderBy(entry => ComparedSystem.Place(entry.System));

    public Table ToTable()
    {
        List<(string Title, Func<ComparisonResult, double?> Number, string Format)> columns =
        [
            ("perplexity", result => result.Scores.Perplexity, "0.000"),
            ("memory off", result => result.NatsWithoutMemory is { } nats ? Math.Exp(nats) : null, "0.000"),
            ("cleared each segment", result => Math.Exp(result.NatsCleared), "0.000"),
            ("first eighth of a segment, nats", result => result.Scores.ByPlace[0].Nats, "0.000"),
            ("last half", result => result.Scores.ByPlace[^1].Nats, "0.000"),
        ];
        if (isText)
        {
            columns.Insert(1, ("bits per byte", result => result.BitsPerByte, "0.0000"));
        }
        else
        {
            columns.Add(("names of the segment before, %", result => 100 * result.Scores.Cells.GetValueOrDefault(Distance.SegmentBefore).Accuracy, "0"));
            columns.Add(("older, %", result => 100 * result.Scores.Older.Accuracy, "0"));
        }

        columns.Add(("training, s", result => result.Seconds, "0"));
        var seeds = results.Select(result => result.Seed).Distinct().Count() > 1 ? "; mean over the seeds, and their range" : "";
        var table = new Table().Border(TableBorder.Rounded).Title("Held-out text, read as a stream from its start" + seeds);
        table.AddColumn("system");
        table.AddColumn(new TableColumn("numbers held").RightAligned());
        foreach (var (title, _, _) in columns)
        {
            table.AddColumn(new TableColumn(title).RightAligned());
        }

        foreach (var (system, of) in Systems)
        {
            table.AddRow([
                system.Title, string.Create(CultureInfo.InvariantCulture, $"{of[0].NumbersHeld:N0}"),
                .. columns.Select(column => of.Select(column.Number).OfType<double>().ToArray() is { Length: > 0 } numbers ? MeanAndRange.Text(numbers, column.Format) : ""),
            ]);
        }

        return table;
    }

    /// <summary>The files of a comparison and their text.</summary>
    public IEnumerable<(string Name, string Text)> Files()
    {
        yield return ("lm.csv", CsvText.Of(
            from entry in Systems
            from result in entry.Results
            select new LmLine(
                result.System, result.Seed, result.Tokens, result.NumbersHeld, Math.Round(result.Scores.Perplexity, 4), Rounded(result.BitsPerByte), Rounded(Exp(result.NatsWithoutMemory)),
                Math.Round(Math.Exp(result.NatsCleared), 4), Math.Round(result.Seconds, 1))));
        yield return ("lm-loss.csv", CsvText.Of(
            from entry in Systems
            from result in entry.Results
            from line in result.Scores.ByPosition.Select(bin => (By: "position", bin)).Concat(result.Scores.ByPlace.Select(bin => (By: "place", bin)))
            select new LossLine(result.System, result.Seed, line.By, line.bin.From, line.bin.Count, Math.Round(line.bin.Nats, 4))));
        yield return ("lm-position.svg", PositionSvg());
        if (!isText)
        {
            var recall = new RecallReport(results);
            yield return ("lm-recall.csv", recall.ToCsv());
            yield return ("lm-recall.svg", recall.ToSvg());
        }

        static double? Rounded(double? number) => number is { } value ? Math.Round(value, 4) : null;

        static double? Exp(double? nats) => nats is { } value ? Math.Exp(value) : null;
    }

    /// <summary>
    /// Perplexity by distance from the start of the document, each point the mean from there to the next. How hard the text is differs from place to place, so it is shown relative to
    /// local attention, if that is among the systems.
    /// </summary>
    private string PositionSvg()
    {
        var lines = Systems.Select(entry => (entry.System, Nats: ByPosition(entry.Results))).ToArray();
        var local = lines.Length > 1 ? lines.FirstOrDefault(line => line.System.Name == "local").Nats : null;
        return LineChart.Svg(
            local is null ? "Perplexity by distance from the start" : "Perplexity by distance from the start, over that of local attention alone",
            [.. lines.Where(line => line.Nats != local).Select(line => new ChartLine(line.System.Title, [.. line.Nats.Select(Point)]))],
            [isText ? "text" : "chronicles", $"{TokenCount.Format(results[0].Tokens)} tokens of training"],
            isLinear: true);

        (double X, double Y) Point(KeyValuePair<long, double> nats) => (Math.Max(512, nats.Key), Math.Exp(nats.Value - (local?[nats.Key] ?? 0)));
    }

    /// <summary>The mean loss from each position on, over the seeds.</summary>
    private static SortedDictionary<long, double> ByPosition(ComparisonResult[] of) =>
        new(of.SelectMany(result => result.Scores.ByPosition).GroupBy(bin => bin.From).ToDictionary(bins => bins.Key, bins => bins.Average(bin => bin.Nats)));
}
