using System.CommandLine;
using System.Globalization;
using Spectre.Console;

namespace LongContext.Recall;

/// <summary><c>recall</c>: compares how far back systems recall what a text told them, all trained in the same way from one shared base.</summary>
public static class RecallCommand
{
    private const long BaseTokens = 1_200_000;

    public static Command Create()
    {
        var systems = new Option<string[]>("--systems")
        {
            Description = "The systems to compare: " + string.Join(", ", RecallSystem.All.Select(system => system.Name)) + ". Default: all.",
            DefaultValueFactory = _ => [.. RecallSystem.All.Select(system => system.Name)],
            AllowMultipleArgumentsPerToken = true,
        };
        var seeds = new Option<int[]>("--seeds") { Description = "The seeds.", DefaultValueFactory = _ => [1, 2, 3], AllowMultipleArgumentsPerToken = true };
        var tokens = new Option<string>("--tokens") { Description = "How many tokens each system reads after the base.", DefaultValueFactory = _ => "1536K" };
        var workers = new Option<int>("--workers") { Description = "Trainings in parallel, each on one core.", DefaultValueFactory = _ => Environment.ProcessorCount };
        var forChoosing = new Option<bool>("--for-choosing") { Description = "Evaluates on other held-out chronicles: for trying settings, so that the reported ones stay unseen." };
        var documents = new Option<int>("--documents") { Description = "How many held-out chronicles of 8192 tokens are read.", DefaultValueFactory = _ => 8 };
        var output = new Option<DirectoryInfo>("--output")
        {
            Description = "The folder of weights and results; what is there already is not trained again.",
            DefaultValueFactory = _ => new("artifacts/recall"),
        };
        var command = new Command("recall", "Trains language models on chronicles, and measures how far back they recall a name: "
            + "local attention, Transformer-XL, Memorizing Transformers, Infini-attention.")
        {
            systems, seeds, tokens, workers, documents, forChoosing, output, Job(),
        };
        command.SetAction(async (arguments, cancellation) =>
        {
            var folder = arguments.GetValue(output)!.FullName;
            var chosen = arguments.GetValue(systems)!.Select(RecallSystem.Named).ToArray();
            var (count, parallel) = (TokenCount.Parse(arguments.GetValue(tokens)!), arguments.GetValue(workers));
            if (parallel < 1)
            {
                throw new InputException("--workers must be at least 1.");
            }

            if (arguments.GetValue(documents) < 1)
            {
                throw new InputException("--documents must be at least 1.");
            }

            AtomicFile.Check(Path.Combine(folder, "recall.csv"));
            var plan = Plan(chosen, arguments.GetValue(seeds)!, count, folder);
            await Run(plan, parallel, new(arguments.GetValue(documents), arguments.GetValue(forChoosing)), cancellation);
            Show(plan.Where(job => chosen.Any(system => system.Name == job.System)), folder);
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        });
        return command;
    }

    private static Command Job()
    {
        var system = new Option<string>("--system") { Required = true };
        var seed = new Option<int>("--seed") { Required = true };
        var tokens = new Option<long>("--tokens") { Required = true };
        var output = new Option<string>("--output") { Required = true };
        var documents = new Option<int>("--documents") { Required = true };
        var forChoosing = new Option<bool>("--for-choosing");
        var command = new Command(RecallProcess.Command, "Runs one training; started by the command 'recall'.") { system, seed, tokens, output, documents, forChoosing };
        command.Hidden = true;
        command.SetAction((arguments, cancellation) => Task.Run(() =>
        {
            var job = new RecallJob(arguments.GetValue(system)!, arguments.GetValue(seed), arguments.GetValue(tokens), arguments.GetValue(output)!);
            job.Run(new(arguments.GetValue(documents), arguments.GetValue(forChoosing)), step => Console.WriteLine(RecallProcess.Line(step)), cancellation);
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        }));
        return command;
    }

    /// <summary>All jobs that the systems need, each after the job whose weights it starts from.</summary>
    private static List<RecallJob> Plan(IReadOnlyList<RecallSystem> systems, int[] seeds, long tokens, string folder)
    {
        var needed = systems.Concat(systems.Where(system => system.After is not null).Select(system => RecallSystem.Named(system.After!))).Distinct().OrderBy(system => system.After is null ? 0 : 1);
        return
        [
            .. seeds.Select(seed => new RecallJob(RecallJob.Base, seed, BaseTokens, folder)),
            .. from system in needed from seed in seeds select new RecallJob(system.Name, seed, system.After is null ? tokens : tokens / 3, folder),
        ];
    }

    private static async Task Run(List<RecallJob> plan, int workers, HeldOut heldOut, CancellationToken cancellation)
    {
        using var free = new SemaphoreSlim(workers);
        var started = new Dictionary<(string System, int Seed), Task>();
        try
        {
            await AnsiConsole.Progress()
                .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
                .StartAsync(async display =>
                {
                    var overall = display.AddTask("all trainings", maxValue: plan.Sum(job => job.Tokens));
                    foreach (var job in plan)
                    {
                        started.Add((job.System, job.Seed), Finish(job, display, overall));
                    }

                    await Task.WhenAll(started.Values);
                });
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            // The finished results are still shown.
        }

        async Task Finish(RecallJob job, ProgressContext display, ProgressTask overall)
        {
            if (job.IsFinished)
            {
                overall.Increment(job.Tokens);
                return;
            }

            if (job.Before is { } before)
            {
                await started[(before, job.Seed)];
            }

            await free.WaitAsync(cancellation);
            try
            {
                await Train(job, display, overall);
            }
            finally
            {
                free.Release();
            }
        }

        async Task Train(RecallJob job, ProgressContext display, ProgressTask overall)
        {
            cancellation.ThrowIfCancellationRequested();
            var bar = display.AddTask($"{job.System}, seed {job.Seed}", maxValue: 1);
            var (loss, recall) = (double.NaN, double.NaN);
            await RecallProcess.Run(job, heldOut, step =>
            {
                (loss, recall) = (Smooth(loss, step.Loss), Smooth(recall, step.RecallLoss));
                bar.MaxValue = step.Steps;
                bar.Value = step.Step;
                bar.Description = string.Create(CultureInfo.InvariantCulture, $"{job.System}, seed {job.Seed}: loss {loss:0.00}, of names told before {recall:0.00}");
                overall.Increment((double)job.Tokens / step.Steps);
            }, cancellation);
            bar.StopTask();
        }

        static double Smooth(double mean, double next) => double.IsNaN(mean) ? next : double.IsNaN(next) ? mean : mean + (0.03 * (next - mean));
    }

    private static void Show(IEnumerable<RecallJob> jobs, string folder)
    {
        var results = jobs.Select(job => RecallResult.Load(job.Folder, job.System, job.Seed, job.Tokens)).OfType<RecallResult>().ToArray();
        if (results.Length == 0)
        {
            AnsiConsole.WriteLine("Interrupted before any system was trained.");
            return;
        }

        var report = new RecallReport(results);
        AnsiConsole.Write(report.ToTable());
        foreach (var (name, text) in new[] { ("recall.csv", report.ToCsv()), ("recall.svg", report.ToSvg()) })
        {
            AtomicFile.Write(Path.Combine(folder, name), text);
            AnsiConsole.MarkupLineInterpolated($"Written: {Path.Combine(folder, name)}");
        }
    }
}
