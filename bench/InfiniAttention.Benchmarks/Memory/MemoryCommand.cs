using System.Globalization;
using Spectre.Console;

namespace InfiniAttention.Benchmarks;

/// <summary>Resident memory by tokens read, each call in a fresh process without settings in its environment, as a table, a file and a chart.</summary>
internal static class MemoryCommand
{
    private const long Early = 256 * Setting.Kilo;
    private const long Megabyte = 1 << 20;

    /// <param name="jobs">What to measure.</param>
    /// <param name="folder">Where the file and the chart go.</param>
    public static void Run(IReadOnlyList<MemoryJob> jobs, string folder)
    {
        Directory.CreateDirectory(folder);
        var results = new List<(MemoryJob Job, List<(long Tokens, long Bytes)> Curve, long Peak)>();
        AnsiConsole.Progress().AutoClear(true).Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new ElapsedTimeColumn()).Start(progress =>
        {
            var task = progress.AddTask("memory", maxValue: jobs.Count);
            foreach (var job in jobs)
            {
                task.Description = Name(job);
                results.Add(Start(job));
                task.Increment(1);
            }
        });

        string[] provenance = [.. Machine.Provenance(TorchSharp.torch.CPU)];
        AnsiConsole.Write(Show(results));
        var path = Path.Combine(folder, MemoryChart.Results);
        CsvFile.Write(path, provenance, results
            .SelectMany(result => result.Curve.Select(point => (IReadOnlyList<object?>)
                [result.Job.Call, result.Job.Width, result.Job.MakesCrumbs, result.Job.Threads, point.Tokens, point.Bytes / (double)Megabyte, result.Peak / (double)Megabyte]))
            .Prepend(["call", "width", "model makes crumbs", "threads", "tokens", "resident MiB", "peak MiB"]));
        AnsiConsole.MarkupLineInterpolated($"Written to {path} and {MemoryChart.Draw(folder)}.");
    }

    private static (MemoryJob Job, List<(long Tokens, long Bytes)> Curve, long Peak) Start(MemoryJob job)
    {
        using var process = JobProcess.Begin([MemoryJob.Command, $"{job.Call}", $"{job.Width}", $"{job.MakesCrumbs}", $"{job.Tokens}", $"{job.Threads}"]);
        var lines = process.StandardOutput.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(line => line.Split(' ')).ToArray();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new MeasurementException($"The process of {Name(job)} ended with exit code {process.ExitCode}.");
        }

        return (job, [.. lines[..^1].Select(line => (Number(line[0]), Number(line[1])))], Number(lines[^1][1]));

        static long Number(string text) => long.Parse(text, CultureInfo.InvariantCulture);
    }

    private static Table Show(IEnumerable<(MemoryJob Job, List<(long Tokens, long Bytes)> Curve, long Peak)> results)
    {
        var table = new Table().AddColumns("call", "64K", "256K", "1M", "at the end", "end / 256K", "peak, MiB");
        foreach (var (job, curve, peak) in results)
        {
            var end = curve[^1];
            table.AddRow(
                Name(job), At(64 * Setting.Kilo), At(Early), At(1024 * Setting.Kilo), $"{end.Bytes / Megabyte} ({end.Tokens / Setting.Kilo}K)",
                curve.Find(point => point.Tokens == Early) is { Bytes: > 0 } early ? (end.Bytes / (double)early.Bytes).ToString("F3", CultureInfo.InvariantCulture) : "–", $"{peak / Megabyte}");

            string At(long tokens) => curve.Find(point => point.Tokens == tokens) is { Bytes: > 0 } point ? $"{point.Bytes / Megabyte}" : "–";
        }

        return table;
    }

    private static string Name(MemoryJob job) => $"{job.Call}, D {job.Width}{(job.MakesCrumbs ? ", user's crumbs" : "")}, {job.Threads} thread{(job.Threads == 1 ? "" : "s")}";
}
