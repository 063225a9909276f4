using System.Globalization;
using Spectre.Console;
using TorchSharp;

namespace InfiniAttention.Benchmarks;

/// <summary>Time per token and peak memory by length, each length in a process of its own, as a table and charts.</summary>
internal static class ScalingCommand
{
    private const long Kilo = Setting.Kilo;

    // A series ends before a length that would take more than this share of the available memory.
    private const double MemoryShare = 0.7;

    /// <summary>What is measured, its name in charts, and whether it is a training.</summary>
    internal static readonly (Workload Workload, string Name, bool Trains)[] Kinds =
    [
        (Workload.Stream, "streamed through an Infini-attention layer", false),
        (Workload.FullAttention, "full attention layer", false),
        (Workload.Backpropagate, "Backpropagate, window by window", true),
        (Workload.OrdinaryTraining, "ordinary training, one graph", true),
    ];

    public static void Run(torch.Device device, string deviceName, long longest, long longestTraining, double patience, string folder)
    {
        Directory.CreateDirectory(folder);
        var results = new List<(Workload Workload, List<(long Tokens, JobResult Result)> Points)>();
        AnsiConsole.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new ElapsedTimeColumn()).Start(progress =>
        {
            var kinds = Kinds.Select(kind => (kind.Workload, kind.Trains, Task: progress.AddTask(kind.Name, false))).ToArray();
            foreach (var (workload, trains, task) in kinds)
            {
                long[] lengths = [.. Lengths(trains ? longestTraining : longest)];
                task.MaxValue = lengths.Length;
                task.StartTask();
                results.Add((workload, Measure(workload, lengths, deviceName, patience, () => task.Increment(1))));
                task.StopTask();
            }
        });

        var kind = device.type.ToString().ToLowerInvariant();
        WriteTable(Path.Combine(folder, $"scaling-{kind}.csv"), Machine.Provenance(device), results);
        ScalingChart.Draw(folder, kind);
    }

    /// <summary>4K and its doublings, up to and including the longest.</summary>
    private static IEnumerable<long> Lengths(long longest)
    {
        for (var tokens = 4 * Kilo; tokens < longest; tokens *= 2)
        {
            yield return tokens;
        }

        yield return longest;
    }

    /// <summary>The lengths in turn, until one would take longer or more memory than allowed.</summary>
    private static List<(long Tokens, JobResult Result)> Measure(Workload workload, long[] lengths, string device, double patience, Action advance)
    {
        var points = new List<(long Tokens, JobResult Result)>();
        foreach (var tokens in lengths)
        {
            if (points is [.., var last] && !IsWithinReach(points, last, tokens, patience))
            {
                break;
            }

            points.Add((tokens, JobProcess.Start(workload, tokens, device)));
            advance();
        }

        return points;
    }

    private static bool IsWithinReach(List<(long Tokens, JobResult Result)> points, (long Tokens, JobResult Result) last, long tokens, double patience)
    {
        var growth = (double)tokens / last.Tokens;
        var grows = points is [.., var before, _] ? Math.Max(1, last.Result.Seconds / before.Result.Seconds / (last.Tokens / (double)before.Tokens)) : 1;
        var seconds = last.Result.Seconds * growth * grows;
        var bytes = points is [.., var earlier, _]
            ? last.Result.PeakBytes + ((last.Result.PeakBytes - earlier.Result.PeakBytes) * (tokens - last.Tokens) / (last.Tokens - earlier.Tokens))
            : last.Result.PeakBytes * growth;
        return seconds <= patience && bytes <= MemoryShare * GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
    }

    private static void WriteTable(string path, IEnumerable<string> provenance, List<(Workload Workload, List<(long Tokens, JobResult Result)> Points)> results)
    {
        var rows = results
            .SelectMany(result => result.Points.Select(point => (IReadOnlyList<object?>)
                [result.Workload, point.Tokens, point.Result.Seconds, point.Result.Seconds / point.Tokens * 1e6, point.Result.PeakBytes / (1 << 20)]))
            .Prepend(["series", "tokens", "seconds", "microseconds per token", "peak MiB"]).ToArray();
        var table = new Table().AddColumns("series", "tokens", "s", "µs per token", "peak MiB");
        foreach (var row in rows.Skip(1))
        {
            table.AddRow([.. row.Select(value => value is double number ? number.ToString("G4", CultureInfo.InvariantCulture) : $"{value}")]);
        }

        AnsiConsole.Write(table);
        CsvFile.Write(path, provenance, rows);
        AnsiConsole.MarkupLineInterpolated($"Written to {path}.");
    }
}
