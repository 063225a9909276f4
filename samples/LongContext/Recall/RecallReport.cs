using System.Globalization;
using CsvHelper.Configuration.Attributes;
using LongContext.Comparison;
using Spectre.Console;

namespace LongContext.Recall;

/// <summary>A row of the results file.</summary>
public sealed record RecallLine(
    [property: Name("system")] string System,
    [property: Name("seed")] int Seed,
    [property: Name("tokens")] long Tokens,
    [property: Name("numbers_held")] long NumbersHeld,
    [property: Name("distance")] string Distance,
    [property: Name("count")] long Count,
    [property: Name("nats")] double Nats,
    [property: Name("accuracy_percent")] double AccuracyPercent,
    [property: Name("perplexity")] double Perplexity,
    [property: Name("perplexity_without_memory")] double? PerplexityWithoutMemory,
    [property: Name("seconds")] double Seconds);

/// <summary>The results of all systems and seeds, as a table, a file and a chart.</summary>
public sealed class RecallReport(IReadOnlyList<ComparisonResult> results)
{
    private static readonly (Distance Distance, string Title)[] Columns =
    [
        (Distance.SameSegment, "same segment"), (Distance.SegmentBefore, "segment before"), (Distance.TwoToThree, "2 to 3 back"),
            (Distance.FourToSeven, "4 to 7"), (Distance.EightAndMore, "8 and more"),
    ];

    private IEnumerable<(ComparedSystem System, ComparisonResult[] Results)> Systems =>
        results.GroupBy(result => result.System).Select(of => (System: ComparedSystem.Named(of.Key), of.ToArray())).OrderBy(entry => ComparedSystem.Place(entry.System));

    public Table ToTable()
    {
        var table = new Table().Border(TableBorder.Rounded).Title("Names recalled, %, by where they were last told (segments back); mean over the seeds, and their range");
        table.AddColumn("system");
        foreach (var title in new[] { "numbers held" }.Concat(Columns.Select(column => column.Title)).Concat(["all older, nats", "perplexity", "without memory"]))
        {
            table.AddColumn(new TableColumn(title).RightAligned());
        }

        foreach (var (system, of) in Systems)
        {
            table.AddRow([
                system.Title, string.Create(CultureInfo.InvariantCulture, $"{of[0].NumbersHeld:N0}"),
                .. Columns.Select(column => Mean(of, result => 100 * result.Scores.Cells.GetValueOrDefault(column.Distance).Accuracy, "0.0")),
                Mean(of, result => result.Scores.Older.Nats, "0.000"),
                Mean(of, result => result.Scores.Perplexity, "0.000"),
                of[0].NatsWithoutMemory is null ? "" : Mean(of, result => Math.Exp(result.NatsWithoutMemory!.Value), "0.000"),
            ]);
        }

        return table;
    }

    /// <summary>A row for each system, seed and distance.</summary>
    public string ToCsv() => CsvText.Of(
        from entry in Systems
        from result in entry.Results.OrderBy(result => result.Seed)
        from cell in result.Scores.Cells.OrderBy(cell => cell.Key)
        select new RecallLine(
            result.System, result.Seed, result.Tokens, result.NumbersHeld, cell.Key.ToString(), cell.Value.Count, Math.Round(cell.Value.Nats, 4),
            Math.Round(100 * cell.Value.Accuracy, 2), Math.Round(result.Scores.Perplexity, 4),
            result.NatsWithoutMemory is { } without ? Math.Round(Math.Exp(without), 4) : null, Math.Round(result.Seconds, 1)));

    /// <summary>Recall by system and distance, the mean over the seeds.</summary>
    public string ToSvg()
    {
        var systems = Systems.ToArray();
        return new HeatMap
        {
            Title = "Names recalled, %",
            Subtitle = "by where they were last told; a guess is right in 4 of 100",
            Columns = [.. Columns.Select(column => column.Title)],
            Rows = [.. systems.Select(entry => entry.System.Title)],
            Value = (row, column) => 100 * systems[row].Results.Average(result => result.Scores.Cells.GetValueOrDefault(Columns[column].Distance).Accuracy),
            Range = (0, 100),
            IsLargeGood = true,
            Format = "0",
        }.ToSvg();
    }

    private static string Mean(ComparisonResult[] of, Func<ComparisonResult, double> number, string format) => MeanAndRange.Text([.. of.Select(number)], format);
}
