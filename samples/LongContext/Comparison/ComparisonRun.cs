using System.Globalization;
using Spectre.Console;

namespace LongContext.Comparison;

/// <summary>Runs the trainings of an experiment that are missing in its folder, several in parallel, with a progress bar for each.</summary>
/// <param name="experiment">What is read.</param>
/// <param name="folder">Where weights and results are kept.</param>
/// <param name="systems">The systems.</param>
/// <param name="seeds">The seeds of each.</param>
public sealed class ComparisonRun(Experiment experiment, string folder, IReadOnlyList<ComparedSystem> systems, IReadOnlyList<int> seeds)
{
    /// <summary>How many trainings run side by side, each on one core.</summary>
    public int Workers { get; init; } = Environment.ProcessorCount;

    /// <summary>A folder for TensorBoard; null for none.</summary>
    public string? Log { get; init; }

    /// <summary>All results of the folder, those of earlier runs too.</summary>
    public IReadOnlyList<ComparisonResult> Results => ComparisonResult.All(folder);

    /// <summary>Checks what is asked for, before anything is read or written.</summary>
    /// <exception cref="InputException">It cannot be trained.</exception>
    public void Check()
    {
        if (Workers < 1)
        {
            throw new InputException("--workers must be at least 1.");
        }

        if (systems.Contains(ComparedSystem.Base))
        {
            throw new InputException("The base is trained by itself, before the systems.");
        }

        if (Plan().FirstOrDefault(job => job.TokensOf(experiment) < job.TokensOfStep(experiment)) is { } empty)
        {
            throw new InputException($"The training of {empty.System} would read {empty.TokensOf(experiment)} tokens, and one step reads {empty.TokensOfStep(experiment)}: give more.");
        }
    }

    /// <summary>Trains what is missing; when cancelled, what was finished and the last checkpoints stay.</summary>
    public async Task Train(CancellationToken cancellation)
    {
        Check();
        experiment.CheckFrom();
        var plan = Plan();
        if (plan.Select(job => job.Before(experiment)).FirstOrDefault(before => before is not null && before.Folder != folder && !before.IsFinished) is { } missing)
        {
            throw new InputException($"{missing.System} with seed {missing.Seed} was not trained in '{missing.Folder}'.");
        }

        experiment.Claim(folder);
        var longest = systems.Any(system => system.SequenceTokens is not null) ? Math.Max(SequenceTraining.StepTokens, experiment.DocumentTokens) : experiment.DocumentTokens;
        experiment.Open(folder).Training(seed: 0, number: 0, longest + 1); // refuses texts that are too short
        using var ends = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var running = new List<Task>();
        try
        {
            await AnsiConsole.Progress()
                .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
                .StartAsync(async display =>
                {
                    var overall = display.AddTask("all trainings", maxValue: plan.Sum(job => job.TokensOf(experiment)));
                    overall.Increment(plan.Where(job => job.IsFinished).Sum(job => job.TokensOf(experiment)));
                    var waiting = plan.Where(job => !job.IsFinished).ToList();
                    while (waiting.Count + running.Count > 0)
                    {
                        cancellation.ThrowIfCancellationRequested();
                        while (running.Count < Workers && waiting.FirstOrDefault(job => job.Before(experiment)?.IsFinished ?? true) is { } ready)
                        {
                            waiting.Remove(ready);
                            running.Add(TrainOne(ready, display, overall));
                        }

                        var ended = await Task.WhenAny(running);
                        running.Remove(ended);
                        await ended;
                    }
                });
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // The finished results are still shown.
        }
        finally
        {
            await ends.CancelAsync(); // after a failure the other trainings end too; their checkpoints stay
            await Task.WhenAll(running).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        async Task TrainOne(ComparisonJob job, ProgressContext display, ProgressTask overall)
        {
            cancellation.ThrowIfCancellationRequested();
            var bar = display.AddTask($"{job.System}, seed {job.Seed}", maxValue: 1);
            var (loss, recall) = (double.NaN, double.NaN);
            await JobProcess.Run(job, Log, step =>
            {
                (loss, recall) = (TrainingLog.Smooth(loss, step.Loss), TrainingLog.Smooth(recall, step.RecallLoss));
                overall.Increment((step.Step - bar.Value) * job.TokensOf(experiment) / step.Steps);
                (bar.MaxValue, bar.Value) = (step.Steps, step.Step);
                var recalled = double.IsNaN(recall) ? "" : string.Create(CultureInfo.InvariantCulture, $", of names told before {recall:0.00}");
                bar.Description = string.Create(CultureInfo.InvariantCulture, $"{job.System}, seed {job.Seed}: loss {loss:0.00}{recalled}");
            }, ends.Token);
            bar.StopTask();
        }
    }

    /// <summary>All jobs that the systems need, each after the job whose weights it starts from.</summary>
    private List<ComparisonJob> Plan()
    {
        var needed = systems.SelectMany(system => system.FromBase).DistinctBy(system => system.Name).OrderBy(system => system.FromBase.Count());
        var begin = experiment.From is null ? [ComparisonJob.Base(folder)] : Array.Empty<ComparisonJob>();
        return [.. begin, .. from system in needed from seed in seeds.Distinct() select new ComparisonJob(folder, system.Name, seed)];
    }
}
