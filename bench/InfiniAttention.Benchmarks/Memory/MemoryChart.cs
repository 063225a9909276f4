using Charts;

namespace InfiniAttention.Benchmarks;

/// <summary>The chart of resident memory by tokens read, drawn from the results file and from that of an earlier version.</summary>
internal static class MemoryChart
{
    /// <summary>The file of the results.</summary>
    public const string Results = "memory-cpu.csv";

    private const string Earlier = "memory-cpu-before.csv";

    /// <summary>
    /// Draws the curves of the widest model that leaves native memory behind, with the fewest threads, and, if its file exists, those of an earlier version with a model that
    /// leaves none.
    /// </summary>
    /// <param name="folder">Where the files are, and where the chart goes.</param>
    /// <returns>The chart's path.</returns>
    public static string Draw(string folder)
    {
        var (provenance, results) = Read(Path.Combine(folder, Results));
        var before = Path.Combine(folder, Earlier);
        var chart = Path.Combine(folder, Path.ChangeExtension(Results, "svg"));
        var (widest, threads) = (results.Max(row => row.Width), results.Min(row => row.Threads));
        File.WriteAllText(chart, LineChart.Svg(
            $"Resident memory of the process by tokens read (MiB), D {widest}, threads: {threads}",
            [.. File.Exists(before) ? Lines(Read(before).Rows, widest, false, "before: ") : [], .. Lines(results.Where(row => row.Threads == threads), widest, true, "")],
            provenance));
        return chart;
    }

    private static IEnumerable<ChartLine> Lines(IEnumerable<Row> rows, long width, bool ofCrumbs, string prefix) =>
        from row in rows
        where row.Width == width && row.MakesCrumbs == ofCrumbs
        group row by (row.Call, row.Threads) into job
        where job.Count() > 1
        select new ChartLine($"{prefix}{job.Key.Call}{(job.Key.Threads == 1 ? ", 1 thread" : "")}", [.. job.Select(row => ((double)row.Tokens, row.Resident))]);

    private static (string[] Provenance, List<Row> Rows) Read(string path) => CsvFile.Read(path, csv => new Row(
        csv.GetField<MemoryCall>("call"), csv.GetField<long>("width"), csv.GetField<bool>("model makes crumbs"),
        csv.GetField<int>("threads"), csv.GetField<long>("tokens"), csv.GetField<double>("resident MiB")));

    private sealed record Row(MemoryCall Call, long Width, bool MakesCrumbs, int Threads, long Tokens, double Resident);
}
