using Charts;
using Spectre.Console;

namespace InfiniAttention.Benchmarks;

/// <summary>The charts of time and memory by length, drawn from the results file.</summary>
internal static class ScalingChart
{
    private sealed record Row(Workload Workload, long Tokens, double MicrosecondsPerToken, double PeakMiB);

    /// <summary>Draws the four charts.</summary>
    /// <param name="folder">Where the file is, and where the charts go.</param>
    /// <param name="kind">The kind of device in the file's name.</param>
    public static void Draw(string folder, string kind)
    {
        var (provenance, rows) = CsvFile.Read(Path.Combine(folder, $"scaling-{kind}.csv"), csv => new Row(
            csv.GetField<Workload>("series"), csv.GetField<long>("tokens"), csv.GetField<double>("microseconds per token"), csv.GetField<double>("peak MiB")));
        foreach (var (trains, what) in new[] { (false, "stream"), (true, "training") })
        {
            var shape = trains
                ? "a language model of 2 blocks, D 128, N 256, forward and backward"
                : $"one layer, D {LayerShape.Short.Width}, H {LayerShape.Short.Heads}, N {LayerShape.Short.SegmentLength}, forward";
            Draw($"scaling-{kind}-{what}-time.svg", $"Microseconds per token: {shape}", trains, row => row.MicrosecondsPerToken);
            Draw($"scaling-{kind}-{what}-memory.svg", $"Peak memory of the process, MiB: {shape}", trains, row => row.PeakMiB);
        }

        void Draw(string name, string title, bool trains, Func<Row, double> value)
        {
            var series = ScalingCommand.Kinds.Where(entry => entry.Trains == trains)
                .Select(entry => new ChartLine(entry.Name, [.. rows.Where(row => row.Workload == entry.Workload).Select(row => ((double)row.Tokens, value(row)))]));
            var path = Path.Combine(folder, name);
            File.WriteAllText(path, LineChart.Svg(title, [.. series], provenance));
            AnsiConsole.MarkupLineInterpolated($"Written to {path}.");
        }
    }
}
