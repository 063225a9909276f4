using System.Xml.Linq;
using InfiniAttention;
using LongContext.Passkey;

namespace LongContext.Tests;

public class EvaluatorTests
{
    private static readonly EvaluationSettings Settings = new() { Lengths = [512, 1024], Trials = 2 };

    [Fact]
    public void Every_cell_gets_its_trials_and_every_length_its_cost()
    {
        var evaluator = Untrained(Settings);
        var read = 0L;

        evaluator.Run(tokens => Interlocked.Add(ref read, tokens), CancellationToken.None);

        Assert.Equal(2 * 2 * 2 * 3, evaluator.Trials.Count);
        Assert.All(evaluator.Trials.CountBy(trial => (trial.Rule, trial.Length, trial.Position)), cell => Assert.Equal(2, cell.Value));
        Assert.All(evaluator.Trials, trial => Assert.Equal(5, trial.Answer.Length));
        Assert.Equal([512L, 1024L], evaluator.Costs.Select(cost => cost.Length));
        Assert.Equal(read, evaluator.Costs.Sum(cost => cost.Tokens));
        Assert.InRange(read, 0.8 * evaluator.TotalTokens, evaluator.TotalTokens);
        Assert.All(evaluator.Costs, cost => Assert.True(cost is { Seconds: > 0, PeakMemory: > 1 << 20 }));
    }

    [Fact]
    public void Both_rules_get_the_same_prompts()
    {
        var evaluator = Untrained(Settings);

        evaluator.Run(_ => { }, CancellationToken.None);

        Assert.Equal(Keys(MemoryUpdate.Linear), Keys(MemoryUpdate.Delta));
        Assert.Equal(Keys(MemoryUpdate.Linear).Distinct(), Keys(MemoryUpdate.Linear));

        string[] Keys(MemoryUpdate rule) => [.. evaluator.Trials.Where(trial => trial.Rule == rule).Select(trial => trial.Key).Order()];
    }

    [Fact]
    public void Keys_are_hidden_where_the_position_says_at_the_start_of_a_word()
    {
        var evaluator = Untrained(Settings with { Haystack = new Haystack("words", "these are some words "u8) });
        for (var trial = 0; trial < 50; trial++)
        {
            foreach (var (position, prompt) in evaluator.Prompts(65536, trial))
            {
                var place = prompt.NeedleTokens.Start / (double)prompt.Length;
                Assert.InRange(place, position switch { KeyPosition.Start => 0, KeyPosition.Middle => 0.49, _ => 0.99 },
                    position switch { KeyPosition.Start => 0.01, KeyPosition.Middle => 0.51, _ => 1 });
                Assert.Equal(65536 - PasskeyPrompt.KeyDigits, prompt.Length);
                var before = new long[1];
                prompt.CopyTo(before, prompt.NeedleTokens.Start - 1);
                Assert.Equal(' ', (char)before[0]);
            }
        }
    }

    [Fact]
    public void Ragged_prompts_end_anywhere_in_a_segment()
    {
        var evaluator = Untrained(Settings with { Ragged = true });

        var ends = Enumerable.Range(0, 200).SelectMany(trial => evaluator.Prompts(65536, trial)).Select(row => row.Prompt.Length % 16).Distinct();

        Assert.Equal(16, ends.Count());
    }

    [Fact]
    public void A_cancelled_run_keeps_the_complete_trials()
    {
        using var cancellation = new CancellationTokenSource();
        var evaluator = Untrained(Settings with { Lengths = [512, 1 << 20] });

        evaluator.Run(_ =>
        {
            if (evaluator.Costs.Count > 0)
            {
                cancellation.Cancel();
            }
        }, cancellation.Token);

        Assert.Equal(12, evaluator.Trials.Count);
        Assert.All(evaluator.Trials, trial => Assert.Equal(512, trial.Length));
        var report = new EvaluationReport(evaluator);
        Assert.Equal(1 + 6, report.ToCsv().Trim().Split('\n').Length);
        Assert.Equal(2, report.ToTable().Rows.Count);
    }

    [Fact]
    public void The_report_says_what_was_measured()
    {
        var evaluator = Untrained(Settings);
        evaluator.Run(_ => { }, CancellationToken.None);
        var report = new EvaluationReport(evaluator);

        var lines = report.ToCsv().Trim().Split('\n');
        Assert.Equal("haystack,rule,tokens,position,trials,right,accuracy_percent,right_digits_percent,tokens_per_second,peak_memory_bytes,seed", lines[0].Trim());
        Assert.Equal(12, lines.Length - 1);
        Assert.StartsWith("periodic,linear,512,start,2,", lines[1]);

        var texts = XDocument.Parse(report.ToSvg()).Descendants().Where(element => element.Name.LocalName == "text").Select(element => element.Value).ToList();
        Assert.Contains("delta, middle", texts);
        Assert.Contains("1K", texts);
        Assert.Equal(evaluator.Trials.Count(trial => !trial.Right), report.Misses().Count());
    }

    private static Evaluator Untrained(EvaluationSettings settings) => new(
        [PasskeyModelTests.Small(MemoryUpdate.Linear), PasskeyModelTests.Small(MemoryUpdate.Delta)], settings);
}
