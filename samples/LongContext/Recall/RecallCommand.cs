using System.CommandLine;
using LongContext.Comparison;
using Spectre.Console;

namespace LongContext.Recall;

/// <summary><c>recall</c>: compares how far back systems recall what a text told them, all trained in the same way from one shared base.</summary>
public static class RecallCommand
{
    private static readonly string[] DefaultSystems = ["memorizing", "norm-delta", "norm-delta-two", "xl", "paper", "local"]; // the slowest first

    public static Command Create()
    {
        var systems = ComparisonOptions.Systems(DefaultSystems);
        var seeds = ComparisonOptions.Seeds(1, 2, 3);
        var tokens = new Option<string>("--tokens") { Description = "How many tokens each system reads after the base.", DefaultValueFactory = _ => "1408K" };
        var workers = ComparisonOptions.Workers();
        var forChoosing = new Option<bool>("--for-choosing") { Description = "Evaluates on other held-out chronicles: for trying settings, so that the reported ones stay unseen." };
        var documents = new Option<int>("--documents") { Description = "How many held-out chronicles of 8192 tokens are read.", DefaultValueFactory = _ => 8 };
        var output = ComparisonOptions.Output("artifacts/recall");
        var command = new Command("recall", "Trains language models on chronicles, and measures how far back they recall a name: "
            + "local attention, Transformer-XL, Memorizing Transformers, Infini-attention.")
        {
            systems, seeds, tokens, workers, documents, forChoosing, output,
        };
        command.SetAction(async (arguments, cancellation) =>
        {
            var experiment = new Experiment
            {
                Sizes = new() { Vocabulary = Chronicle.Vocabulary },
                Tokens = TokenCount.Parse(arguments.GetValue(tokens)!),
                HeldOutDocuments = arguments.AtLeast(1, documents),
                ForChoosing = arguments.GetValue(forChoosing),
            };
            var (folder, chosen) = (arguments.GetValue(output)!.FullName, arguments.GetValue(systems)!.Select(ComparedSystem.Named).ToArray());
            var run = new ComparisonRun(experiment, folder, chosen, arguments.GetValue(seeds)!) { Workers = arguments.GetValue(workers) };
            await run.Train(cancellation);
            Show(run.Results, folder);
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        });
        return command;
    }

    private static void Show(IReadOnlyList<ComparisonResult> results, string folder)
    {
        if (results.Count == 0)
        {
            AnsiConsole.WriteLine("Interrupted before any system was trained.");
            return;
        }

        var report = new RecallReport(results);
        AnsiConsole.Write(report.ToTable());
        Cli.WriteFiles(folder, [("recall.csv", report.ToCsv()), ("recall.svg", report.ToSvg())]);
    }
}
