using System.CommandLine;
using LongContext.Comparison;
using Spectre.Console;

namespace LongContext.Lm;

/// <summary><c>lm</c>: language models with the attention of each system, on texts or on chronicles.</summary>
public static class LmCommand
{
    private static readonly string[] DefaultSystems = ["memorizing", "local", "xl", "rmt", "paper", "paper-delta", "norm", "norm-delta", "norm-delta-two"]; // the slowest first

    public static Command Create() => new("lm", "Language models: local attention, Transformer-XL, Memorizing Transformers, RMT, full attention and Infini-attention, from one shared base.")
    {
        Compare(), GrowCommand.Create(), Train(), Lengths(), SpreadCommand.Create(), Eval(),
    };

    private static Command Compare()
    {
        var (systems, seeds, workers) = (ComparisonOptions.Systems(DefaultSystems), ComparisonOptions.Seeds(1), ComparisonOptions.Workers());
        var options = new LmOptions();
        var command = new Command("compare", "Trains the shared base and continues each system from it on the same documents in the same order, then compares them.") { systems, seeds, workers };
        options.AddTo(command);
        command.SetAction((arguments, cancellation) =>
        {
            var chosen = arguments.GetValue(systems)!.Select(ComparedSystem.Named).ToArray();
            return Run(options.Run(arguments, chosen, arguments.GetValue(seeds)!, arguments.GetValue(workers)), options.Folder(arguments), cancellation);
        });
        return command;
    }

    private static Command Train()
    {
        var system = new Option<string>("--system") { Description = ComparisonOptions.SystemsDescription, Required = true };
        var seed = new Option<int>("--seed") { Description = "The seed.", DefaultValueFactory = _ => 1 };
        var options = new LmOptions();
        var command = new Command("train", "Trains one system, after the shared base if that is missing.") { system, seed };
        options.AddTo(command);
        command.SetAction((arguments, cancellation) =>
            Run(options.Run(arguments, [ComparedSystem.Named(arguments.GetValue(system)!)], [arguments.GetValue(seed)], workers: 1), options.Folder(arguments), cancellation));
        return command;
    }

    private static Command Lengths()
    {
        var system = new Option<string>("--system") { Description = "The system that is continued, one with Infini-attention.", DefaultValueFactory = _ => "norm-delta" };
        var lengths = new Option<string>("--lengths") { Description = "The lengths of the sequences.", DefaultValueFactory = _ => "1K,4K,16K,64K" };
        var (seeds, workers) = (ComparisonOptions.Seeds(1), ComparisonOptions.Workers());
        var options = new LmOptions();
        var command = new Command("lengths", "Continues a trained system with gradients through sequences of several lengths, on the same tokens in the same order.")
        {
            system, lengths, seeds, workers,
        };
        options.AddTo(command);
        command.SetAction((arguments, cancellation) =>
        {
            var before = ComparedSystem.Named(arguments.GetValue(system)!);
            ComparedSystem[] systems = [before, .. arguments.GetValue(lengths)!.Split(',').Select(length => before.AtLength(TokenCount.Parse(length)))];
            return Run(options.Run(arguments, systems, arguments.GetValue(seeds)!, arguments.GetValue(workers)), options.Folder(arguments), cancellation);
        });
        return command;
    }

    private static Command Eval()
    {
        var systems = new Option<string[]>("--systems") { Description = "The systems; default: all that were trained.", AllowMultipleArgumentsPerToken = true };
        var seeds = ComparisonOptions.Seeds(1);
        var heldOut = new Option<FileInfo?>("--held-out") { Description = "Another text than the experiment's held-out one." };
        var tokens = new Option<string?>("--held-out-tokens") { Description = "How many tokens of each held-out document are read; default: as in the experiment." };
        var folder = LmOptions.OutputOption();
        var command = new Command("eval", "Reads held-out text with the weights of a folder, as one stream from its start, and measures each system anew.") { systems, seeds, heldOut, tokens, folder };
        command.SetAction((arguments, cancellation) => Task.Run(() =>
        {
            var path = arguments.GetValue(folder)!.FullName;
            var experiment = Experiment.Load(path);
            if (arguments.GetValue(tokens) is { } count)
            {
                experiment = experiment with { HeldOutTokens = (int)Math.Min(int.MaxValue / 2, TokenCount.Parse(count)) };
            }

            var corpus = experiment.Open(path);
            if (arguments.GetValue(heldOut) is { } file)
            {
                corpus = corpus is TextCorpus text
                    ? text.WithHeldOut(File.ReadAllBytes(file.FullName), experiment.HeldOutTokens)
                    : throw new InputException("--held-out is for models of text; the folder's models read chronicles.");
            }

            var chosen = arguments.GetValue(systems) is { Length: > 0 } names ? names.Select(ComparedSystem.Named) : ComparedSystem.All;
            var jobs = (from system in chosen from seed in arguments.GetValue(seeds)! select new ComparisonJob(path, system.Name, seed)).Where(job => job.IsFinished).ToArray();
            if (jobs.Length == 0)
            {
                throw new InputException($"None of these systems and seeds was trained in '{path}'.");
            }

            var results = Measure(jobs, experiment, corpus, cancellation);
            AnsiConsole.Write(new LmReport(results).ToTable());
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        }));
        return command;
    }

    private static List<ComparisonResult> Measure(ComparisonJob[] jobs, Experiment experiment, Corpus corpus, CancellationToken cancellation)
    {
        var results = new List<ComparisonResult>();
        AnsiConsole.Progress().Start(display =>
        {
            var bar = display.AddTask("systems read the held-out text", maxValue: jobs.Length);
            foreach (var job in jobs.TakeWhile(_ => !cancellation.IsCancellationRequested))
            {
                using var model = ComparedSystem.Named(job.System).Create(experiment.Sizes);
                model.load(job.Weights);
                results.Add(ComparisonResult.Of(job, model, experiment, corpus, ComparisonResult.Load(job.Folder, job.System, job.Seed)!.Seconds));
                bar.Increment(1);
            }
        });
        return results;
    }

    /// <summary>Trains what is missing, and reports all that the folder holds.</summary>
    internal static async Task<int> Run(ComparisonRun run, string folder, CancellationToken cancellation)
    {
        await run.Train(cancellation);
        if (run.Results is not { Count: > 0 } results)
        {
            AnsiConsole.WriteLine("Interrupted before any system was trained. The same command with --resume goes on.");
            return Cli.Interrupted;
        }

        var report = new LmReport(results);
        AnsiConsole.Write(report.ToTable());
        Cli.WriteFiles(folder, report.Files());
        return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
    }
}
