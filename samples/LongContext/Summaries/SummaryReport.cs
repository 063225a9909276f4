using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using Charts;
using CsvHelper.Configuration.Attributes;
using Spectre.Console;

namespace LongContext.Summaries;

/// <summary>A row of the results file: means over the documents, all times 100.</summary>
public sealed record SummaryLine(
    [property: Name("read_percent")] double ReadPercent,
    [property: Name("memory")] string Memory,
    [property: Name("documents")] int Documents,
    [property: Name("rouge_1")] double Rouge1,
    [property: Name("rouge_2")] double Rouge2,
    [property: Name("rouge_l")] double RougeL,
    [property: Name("rouge_lsum")] double RougeLsum,
    [property: Name("facts_right_percent")] double? FactsRight,
    [property: Name("facts_read_percent")] double? FactsRead);

/// <summary>The quality of summaries by how much of the text was read, with the memory and without it.</summary>
public sealed class SummaryReport(IReadOnlyList<SummaryResult> results)
{
    private static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public IReadOnlyList<SummaryLine> Lines { get; } =
    [
        .. from result in results
           group result by (result.Percent, result.HasMemory) into of
           orderby of.Key.Percent, of.Key.HasMemory descending
           select new SummaryLine(
               of.Key.Percent, of.Key.HasMemory ? "on" : "off", of.Count(), Mean(of, result => result.Scores.One.F)!.Value, Mean(of, result => result.Scores.Two.F)!.Value,
               Mean(of, result => result.Scores.L.F)!.Value, Mean(of, result => result.Scores.Lsum.F)!.Value, Mean(of, result => result.Right), Mean(of, result => result.Ceiling)),
    ];

    private bool KnowsFacts => Lines.Any(line => line.FactsRead is not null);

    public Table ToTable()
    {
        List<(string Title, Func<SummaryLine, double?> Number)> columns =
            [("ROUGE-1", line => line.Rouge1), ("ROUGE-2", line => line.Rouge2), ("ROUGE-L", line => line.RougeL), ("ROUGE-Lsum", line => line.RougeLsum)];
        if (KnowsFacts)
        {
            columns.Add(("facts right, %", line => line.FactsRight));
            columns.Add(("facts read, %", line => line.FactsRead));
        }

        var table = new Table().Border(TableBorder.Rounded).Title($"Summaries of {Lines.Max(line => line.Documents)} texts after their first part; ROUGE is F times 100");
        table.AddColumn(new TableColumn("read, %").RightAligned());
        table.AddColumn("memory");
        foreach (var (title, _) in columns)
        {
            table.AddColumn(new TableColumn(title).RightAligned());
        }

        foreach (var line in Lines)
        {
            table.AddRow([Text(line.ReadPercent, "0.##"), line.Memory, .. columns.Select(column => column.Number(line) is { } number ? Text(number, "0.0") : "")]);
        }

        return table;

        static string Text(double number, string format) => number.ToString(format, CultureInfo.InvariantCulture);
    }

    /// <summary>The files of an evaluation and their text.</summary>
    public IEnumerable<(string Name, string Text)> Files()
    {
        yield return ("summary.csv", CsvText.Of(Lines));
        yield return ("summary.svg", ToSvg());
        yield return ("summaries.jsonl", string.Concat(results.Select(result =>
            JsonSerializer.Serialize(new { result.Percent, Memory = result.HasMemory, result.Written, result.Reference }, Plain) + "\n")));
    }

    private string ToSvg()
    {
        List<ChartLine> lines =
        [
            Line("ROUGE-1, memory on", "on", line => line.Rouge1), Line("ROUGE-1, memory off", "off", line => line.Rouge1),
            Line("ROUGE-2, memory on", "on", line => line.Rouge2), Line("ROUGE-2, memory off", "off", line => line.Rouge2),
        ];
        if (KnowsFacts)
        {
            lines.Add(Line("facts right, memory on, %", "on", line => line.FactsRight!.Value));
            lines.Add(Line("facts in the part that was read, %", "off", line => line.FactsRead!.Value));
        }

        return LineChart.Svg("Summaries by how much of the text was read", [.. lines.Where(line => line.Points.Count > 0)], [], isLinear: true, xTitle: "% of the text read");

        ChartLine Line(string title, string memory, Func<SummaryLine, double> number) =>
            new(title, [.. Lines.Where(line => line.Memory == memory).Select(line => (line.ReadPercent, number(line)))]);
    }

    private static double? Mean(IEnumerable<SummaryResult> of, Func<SummaryResult, double?> number) => of.Average(number) is { } mean ? Math.Round(100 * mean, 2) : null;
}
