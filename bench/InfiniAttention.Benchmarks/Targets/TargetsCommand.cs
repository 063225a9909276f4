using System.Globalization;
using Spectre.Console;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Measures the targets, shows them as a table with pass or fail, and writes them to a file.</summary>
internal static class TargetsCommand
{
    /// <param name="setting">Where, how long and how thoroughly.</param>
    /// <param name="only">Part of the names of the targets to measure; null for all.</param>
    /// <param name="path">The results file; null for none.</param>
    /// <returns>0 when every target measured is met, 1 otherwise.</returns>
    public static int Run(Setting setting, string? only, string? path)
    {
        Target[] all = [.. LayerTargets.All(setting), .. StreamTargets.All(setting), .. TrainingTargets.All(setting), .. LeakTarget.All()];
        var chosen = all.Where(target => only is null || target.Name.Contains(only, StringComparison.OrdinalIgnoreCase)).ToArray();
        if (chosen.Length == 0)
        {
            throw new ArgumentException($"No target's name contains '{only}'; the targets are {string.Join(", ", all.Select(target => target.Name))}.");
        }

        if (path is not null)
        {
            CsvFile.MakeFolder(path);
        }

        var results = Measure(setting, chosen);
        AnsiConsole.Write(Show(results));
        var missed = results.Count(result => !result.Target.IsMet(result.Measured.Median));
        AnsiConsole.MarkupLineInterpolated($"{(missed == 0 ? "Every target measured is met" : $"{missed} of {results.Count} targets missed")}.");
        if (path is not null)
        {
            CsvFile.Write(path, Machine.Provenance(setting.Device).Append($"lengths and rounds: {(setting.IsQuick ? "quick" : "full")}"), Rows(results));
            AnsiConsole.MarkupLineInterpolated($"Written to {path}.");
        }

        return missed == 0 ? 0 : 1;
    }

    private static List<(Target Target, Comparison Measured)> Measure(Setting setting, Target[] targets)
    {
        var results = new List<(Target, Comparison)>();
        AnsiConsole.Progress().AutoClear(true).Start(progress =>
        {
            var task = progress.AddTask("targets", maxValue: targets.Length);
            foreach (var target in targets)
            {
                task.Description = target.Name;
                using var scope = NewDisposeScope();
                results.Add((target, target.Measure(setting)));
                task.Increment(1);
            }
        });
        return results;
    }

    private static Table Show(IEnumerable<(Target Target, Comparison Measured)> results)
    {
        var table = new Table().AddColumns("target", "what", "limit", "median", "quartiles", "rounds", "sides (medians)", "");
        foreach (var (target, measured) in results)
        {
            var verdict = (target.Bound, target.IsMet(measured.Median)) switch
            {
                (Bound.None, _) => "[grey]for comparison[/]",
                (_, true) => "[green]pass[/]",
                _ => "[red]FAIL[/]",
            };
            table.AddRow(
                target.Name, target.What, target.LimitText, $"{measured.Median:F3}", $"{measured.LowerQuartile:F3} to {measured.UpperQuartile:F3}", $"{measured.Rounds}",
                $"{measured.Numerator.Name} {Quantity(measured.Numerator.Median, measured.Unit)}, {measured.Denominator.Name} {Quantity(measured.Denominator.Median, measured.Unit)}",
                verdict);
        }

        return table;
    }

    private static IEnumerable<IReadOnlyList<object?>> Rows(IEnumerable<(Target Target, Comparison Measured)> results) => results
        .Select(result => (IReadOnlyList<object?>)
        [
            result.Target.Name, result.Target.What, result.Target.LimitText, result.Measured.Median, result.Measured.LowerQuartile, result.Measured.UpperQuartile, result.Measured.Rounds,
            result.Measured.Numerator.Name, result.Measured.Numerator.Median, result.Measured.Denominator.Name, result.Measured.Denominator.Median, result.Measured.Unit,
            result.Target.Bound == Bound.None ? "" : result.Target.IsMet(result.Measured.Median) ? "pass" : "FAIL",
        ])
        .Prepend(["target", "what", "limit", "median", "lower quartile", "upper quartile", "rounds", "numerator", "its median", "denominator", "its median", "unit", "verdict"]);

    /// <summary>A value in the most readable multiple of its unit.</summary>
    private static string Quantity(double value, string unit) => unit switch
    {
        "B" when value < 1 << 20 => $"{value:F0} B",
        "B" => $"{value / (1 << 20):F0} MiB",
        "tensors" => value.ToString(CultureInfo.InvariantCulture),
        _ when value >= 1 => $"{value:F2} {unit}",
        _ when value >= 1e-3 => $"{value * 1e3:F1} m{unit}",
        _ => $"{value * 1e6:F2} µ{unit}",
    };
}
