using CsvHelper.Configuration.Attributes;
using InfiniAttention;
using Spectre.Console;

namespace LongContext.Passkey;

/// <summary>A row of the results file.</summary>
public sealed record EvaluationLine(
    [property: Name("haystack")] string Haystack,
    [property: Name("rule")] string Rule,
    [property: Name("tokens")] long Tokens,
    [property: Name("position")] string Position,
    [property: Name("trials")] int Trials,
    [property: Name("right")] int Right,
    [property: Name("accuracy_percent")] double AccuracyPercent,
    [property: Name("right_digits_percent")] double RightDigitsPercent,
    [property: Name("tokens_per_second")] double TokensPerSecond,
    [property: Name("peak_memory_bytes")] long PeakMemoryBytes,
    [property: Name("seed")] long Seed);

/// <summary>What an <see cref="Evaluator"/> measured, as a table like the paper's, as CSV and as a chart.</summary>
public sealed class EvaluationReport(Evaluator evaluator)
{
    private readonly EvaluationSettings settings = evaluator.Settings;

    public Table ToTable()
    {
        var table = new Table().Border(TableBorder.Rounded);
        var positions = string.Join("/", settings.Positions.Select(Name));
        table.AddColumn("tokens");
        foreach (var rule in evaluator.Rules)
        {
            table.AddColumn(new TableColumn($"{Name(rule)}\n{positions}").Centered());
        }

        table.AddColumn(new TableColumn("trials\na cell").RightAligned());
        table.AddColumn(new TableColumn("tokens/s").RightAligned());
        table.AddColumn(new TableColumn("peak\nmemory").RightAligned());
        foreach (var cost in evaluator.Costs)
        {
            var cells = new List<string> { TokenCount.Format(cost.Length) };
            cells.AddRange(evaluator.Rules.Select(rule => string.Join("/", settings.Positions.Select(position => Percent(rule, cost.Length, position)))));
            var counts = from rule in evaluator.Rules from position in settings.Positions select Cell(rule, cost.Length, position).Count;
            cells.Add(counts.Min() == counts.Max() ? $"{counts.Max()}" : $"{counts.Min()} to {counts.Max()}");
            cells.Add($"{cost.TokensPerSecond:N0}");
            cells.Add($"{cost.PeakMemory / 1048576.0:N1} MB");
            table.AddRow([.. cells]);
        }
        return table;
    }

    /// <summary>A row for each rule, length and position.</summary>
    public string ToCsv() => CsvText.Of(
        from cost in evaluator.Costs
        from row in Rows()
        let trials = Cell(row.Rule, cost.Length, row.Position)
        where trials.Count > 0
        select new EvaluationLine(
            settings.Haystack.Name, Name(row.Rule), cost.Length, Name(row.Position), trials.Count, trials.Count(trial => trial.Right),
            Math.Round(100 * Accuracy(trials), 2), Math.Round(100 * trials.Average(RightDigits), 2),
            Math.Round(cost.TokensPerSecond), cost.PeakMemory, settings.Seed));

    public string ToSvg()
    {
        var rows = Rows().ToList();
        var lengths = evaluator.Costs.Select(cost => cost.Length).ToList();
        return new HeatMap
        {
            Title = "Keys found, %",
            Subtitle = $"{settings.Trials} {(settings.Trials == 1 ? "trial" : "trials")} a cell · haystack: {settings.Haystack.Name}",
            Columns = [.. lengths.Select(TokenCount.Format)],
            Rows = [.. rows.Select(row => $"{Name(row.Rule)}, {Name(row.Position)}")],
            Value = (row, column) => Cell(rows[row].Rule, lengths[column], rows[row].Position) is { Count: > 0 } trials ? 100 * Accuracy(trials) : null,
            Range = (0, 100),
            IsLargeGood = true,
        }.ToSvg();
    }

    /// <summary>One prompt, in part, and what was answered; null if its trial was not completed.</summary>
    public (string Prompt, Trial Trial)? Example()
    {
        if (evaluator.Trials is not [var first, ..])
        {
            return null;
        }

        var prompt = evaluator.Prompts(first.Length, 0).First(entry => entry.Position == first.Position).Prompt;
        return evaluator.Trials.FirstOrDefault(trial => trial.Length == first.Length && trial.Key == prompt.Key) is { } asked ? (prompt.Excerpt(), asked) : null;
    }

    /// <summary>A line for each trial with a wrong answer.</summary>
    public IEnumerable<string> Misses() => evaluator.Trials.Where(trial => !trial.Right).Select(trial =>
        $"{Name(trial.Rule)}, {TokenCount.Format(trial.Length)}, {Name(trial.Position)}: the key was {trial.Key}, the answer {Printable(trial.Answer)}");

    private IEnumerable<(MemoryUpdate Rule, KeyPosition Position)> Rows() =>
        from rule in evaluator.Rules from position in settings.Positions select (rule, position);

    private List<Trial> Cell(MemoryUpdate rule, long length, KeyPosition position) =>
        [.. evaluator.Trials.Where(trial => trial.Rule == rule && trial.Length == length && trial.Position == position)];

    private string Percent(MemoryUpdate rule, long length, KeyPosition position) =>
        Cell(rule, length, position) is { Count: > 0 } trials ? $"{100 * Accuracy(trials):0}" : "–";

    private static double Accuracy(List<Trial> trials) => trials.Average(trial => trial.Right ? 1.0 : 0.0);

    private static double RightDigits(Trial trial) => trial.Key.Zip(trial.Answer).Average(pair => pair.First == pair.Second ? 1.0 : 0.0);

    /// <summary>An answer without letters that a terminal would take for a command.</summary>
    public static string Printable(string answer) => string.Concat(answer.Select(letter => letter is >= ' ' and <= '~' ? letter : '?'));

    private static string Name<T>(T value) where T : struct, Enum => value.ToString().ToLowerInvariant();
}
