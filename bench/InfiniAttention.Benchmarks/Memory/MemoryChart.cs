using System.Globalization;
using CsvHelper;
using CsvHelper.Configuration;

namespace InfiniAttention.Benchmarks;

/// <summary>The chart of resident memory by tokens read, drawn from the file of the results and that of an earlier version.</summary>
internal static class MemoryChart
{
    /// <summary>The file of the results.</summary>
    public const string Results = "memory-cpu.csv";

    private const string Earlier = "memory-cpu-before.csv";

    /// <summary>Draws the curves of the widest model, with those of an earlier version where its file is there.</summary>
    /// <param name="folder">Where the files are, and where the chart goes.</param>
    /// <returns>The chart's path.</returns>
    public static string Draw(string folder)
    {
        var (provenance, results) = Read(Path.Combine(folder, Results));
        var before = Path.Combine(folder, Earlier);
        var chart = Path.Combine(folder, Path.ChangeExtension(Results, "svg"));
        var widest = results.Max(row => row.Width);
        File.WriteAllText(chart, LineChart.Svg(
            $"Resident memory of the process by tokens read (MiB), D {widest}",
            [.. File.Exists(before) ? Lines(Read(before).Rows, widest, "before: ") : [], .. Lines(results, widest, "")],
            provenance));
        return chart;
    }

    private static IEnumerable<ChartLine> Lines(IEnumerable<Row> rows, long width, string prefix) =>
        from row in rows
        where row.Width == width
        group row by (row.Call, row.MakesCrumbs, row.Threads) into job
        where job.Count() > 1
        let name = $"{prefix}{job.Key.Call}{(job.Key.MakesCrumbs ? ", user's crumbs" : "")}{(job.Key.Threads == 2 ? "" : $", {job.Key.Threads} thread")}"
        select new ChartLine(name, [.. job.Select(row => ((double)row.Tokens, row.Resident))]);

    private static (string[] Provenance, Row[] Rows) Read(string path)
    {
        string[] lines = File.ReadAllLines(path);
        using var csv = new CsvReader(new StringReader(string.Join('\n', lines)), new CsvConfiguration(CultureInfo.InvariantCulture) { AllowComments = true });
        return ([.. lines.TakeWhile(line => line.StartsWith('#')).Select(line => line[2..])], [.. csv.GetRecords<Row>()]);
    }

    private sealed record Row(
        [property: CsvHelper.Configuration.Attributes.Index(0)] MemoryCall Call,
        [property: CsvHelper.Configuration.Attributes.Index(1)] long Width,
        [property: CsvHelper.Configuration.Attributes.Index(2)] bool MakesCrumbs,
        [property: CsvHelper.Configuration.Attributes.Index(3)] int Threads,
        [property: CsvHelper.Configuration.Attributes.Index(4)] long Tokens,
        [property: CsvHelper.Configuration.Attributes.Index(5)] double Resident);
}
