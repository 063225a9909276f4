using System.CommandLine;
using LongContext.Models;
using Spectre.Console;
using TorchSharp;

namespace LongContext.Passkey;

/// <summary><c>passkey eval</c>: reads prompts of 32K to a million tokens and more, and prints how many keys were found.</summary>
public static class EvalCommand
{
    public static Command Create()
    {
        var lengths = new Option<string>("--lengths") { Description = "Lengths in tokens, including the answer.", DefaultValueFactory = _ => "32K,128K,256K,512K,1M" };
        var positions = new Option<string>("--positions") { Description = "Where the key is hidden.", DefaultValueFactory = _ => "start,middle,end" };
        var trials = new Option<int>("--trials") { Description = "Trials for each rule, length and position.", DefaultValueFactory = _ => 2 };
        var weights = new Option<FileInfo[]>("--weights")
        {
            Description = "Weights files from 'passkey train'; default: the shipped ones.",
            AllowMultipleArgumentsPerToken = true,
            DefaultValueFactory = _ => [],
        };
        var ragged = new Option<bool>("--ragged") { Description = "Shortens each length by up to a segment at random, so that the question also crosses segment boundaries." };
        var csv = new Option<FileInfo?>("--csv") { Description = "Also writes the result here, as CSV." };
        var svg = new Option<FileInfo?>("--svg") { Description = "Also writes the result here, as a chart." };
        var rule = PasskeyCommand.RuleOption();
        var seed = PasskeyCommand.SeedOption();
        var device = PasskeyCommand.DeviceOption();
        var haystack = PasskeyCommand.HaystackOption("A text to hide the key in; default: the paper's filler.");
        var command = new Command("eval", "Hides keys in long prompts and asks for them.")
        {
            lengths, positions, trials, seed, rule, weights, device, haystack, ragged, csv, svg,
        };
        command.SetAction((arguments, cancellation) => Task.Run(() => // Ctrl-C has no effect before the action returns its task
        {
            var settings = new EvaluationSettings
            {
                Lengths = [.. Split(arguments.GetValue(lengths)!).Select(ParseLength)],
                Positions = [.. Split(arguments.GetValue(positions)!).Select(ParsePosition)],
                Trials = arguments.GetValue(trials) is > 0 and var number ? number : throw new InputException("--trials must be at least 1."),
                Seed = arguments.GetValue(seed),
                Ragged = arguments.GetValue(ragged),
                Haystack = arguments.GetValue(haystack)! switch
                {
                    [] => Haystack.Periodic,
                    [_] and var file => Haystack.FromFiles(file)[0],
                    _ => throw new InputException("A key is hidden in one haystack: give --haystack once."),
                },
                Device = PasskeyCommand.Device(arguments.GetValue(device)!),
            };
            var models = Models(arguments.GetValue(weights)!, arguments.GetValue(rule)!);
            var (table, chart) = (arguments.GetValue(csv), arguments.GetValue(svg));
            foreach (var file in new[] { table, chart }.OfType<FileInfo>())
            {
                AtomicFile.Check(file.FullName);
            }

            Evaluate(models, settings, table, chart, cancellation);
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        }));
        return command;
    }

    private static void Evaluate(List<Decoder> models, EvaluationSettings settings, FileInfo? csv, FileInfo? svg, CancellationToken cancellation)
    {
        var longest = settings.Lengths.Max();
        if (settings.Haystack != Haystack.Periodic && settings.Haystack.Length < longest)
        {
            AnsiConsole.MarkupLineInterpolated($"The haystack {settings.Haystack.Name} has {settings.Haystack.Length} bytes, fewer than the longest prompt: it is repeated.");
        }

        foreach (var model in models)
        {
            model.to(settings.Device).eval();
        }

        var evaluator = new Evaluator(models, settings);
        AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn(), new SpinnerColumn())
            .Start(display =>
            {
                var task = display.AddTask($"{evaluator.TotalTokens / 1e6:N1} million tokens", maxValue: evaluator.TotalTokens);
                evaluator.Run(read => task.Increment(read), cancellation);
                task.StopTask();
            });

        var report = new EvaluationReport(evaluator);
        if (cancellation.IsCancellationRequested)
        {
            AnsiConsole.WriteLine("Interrupted: this is what was measured so far.");
        }

        AnsiConsole.WriteLine($"Keys found, %, by where they were hidden. Haystack: {settings.Haystack.Name}. Seed: {settings.Seed}.");
        AnsiConsole.Write(report.ToTable());
        if (report.Example() is var (prompt, trial))
        {
            AnsiConsole.MarkupLineInterpolated($"One of the prompts of {TokenCount.Format(trial.Length)} tokens, and the answer: {prompt}[bold]{EvaluationReport.Printable(trial.Answer)}[/]");
        }

        foreach (var miss in report.Misses())
        {
            AnsiConsole.WriteLine(miss);
        }

        Write(csv, report.ToCsv);
        Write(svg, report.ToSvg);
    }

    private static List<Decoder> Models(FileInfo[] files, string rule)
    {
        var rules = PasskeyCommand.Rules(rule);
        if (files.Length == 0)
        {
            return [.. rules.Select(rule => WeightsFile.Load(PasskeyCommand.ShippedWeights(rule)).Model)];
        }

        List<Decoder> models = [.. files.Select(file => WeightsFile.Load(file.FullName).Model).Where(model => rules.Contains(model.Attention.Update))];
        if (models.Count == 0)
        {
            throw new InputException($"None of the given weights was trained with the update rule '{rule}'.");
        }

        if (models.DistinctBy(model => model.Attention.Update).Count() < models.Count)
        {
            throw new InputException("Two of the given weights have the same update rule: give one file per rule.");
        }

        return models;
    }

    private static void Write(FileInfo? file, Func<string> content)
    {
        if (file is null)
        {
            return;
        }

        AtomicFile.Write(file.FullName, content());
        AnsiConsole.WriteLine($"Written: {file}");
    }

    private static string[] Split(string list) => list.Split(',', StringSplitOptions.TrimEntries);

    private static long ParseLength(string text)
    {
        var length = TokenCount.Parse(text);
        var shortest = length - PasskeyPrompt.FillerTokens(length) + PasskeyPrompt.KeyDigits;
        return length >= shortest ? length
            : throw new InputException($"A length of {length} tokens is too short: the instruction, the key, the question and the answer alone take {shortest}.");
    }

    private static KeyPosition ParsePosition(string text) => Enum.TryParse<KeyPosition>(text, ignoreCase: true, out var position) && Enum.IsDefined(position)
        ? position : throw new InputException($"There is no position '{text}': it is start, middle or end.");
}
