using System.CommandLine;
using LongContext.Comparison;
using Spectre.Console;

namespace LongContext.Lm;

/// <summary><c>lm grow</c>: what <c>lm compare</c> does, but each system is trained on short segments first.</summary>
internal static class GrowCommand
{
    private static readonly string[] DefaultSystems = ["memorizing", "local", "xl", "paper", "paper-delta", "norm-delta"]; // the slowest first

    public static Command Create()
    {
        var (systems, seeds, workers) = (ComparisonOptions.Systems(DefaultSystems), ComparisonOptions.Seeds(1), ComparisonOptions.Workers());
        var shortSegment = new Option<int>("--short-segment") { Description = "N of the first stage: a power of two from 8 to half of --segment.", DefaultValueFactory = _ => 32 };
        var shortTokens = new Option<string>("--short-tokens") { Description = "How many tokens each system reads in the first stage, after the base.", DefaultValueFactory = _ => "6M" };
        var options = new LmOptions("artifacts/lm-grow");
        var command = new Command("grow", "Trains each system on short segments first and goes on with longer ones, on the same documents in the same order, then compares them.")
        {
            systems, seeds, workers, shortSegment, shortTokens,
        };
        options.AddTo(command);
        command.SetAction(async (arguments, cancellation) =>
        {
            arguments.Refuse([options.From], "The first stage begins with the base");
            var folder = options.Folder(arguments);
            var last = options.Experiment(arguments, shortSegment, shortTokens);
            var first = options.IsResumed(arguments)
                ? Experiment.Load(last.From ?? throw new InputException($"The experiment in '{folder}' did not begin with short segments: go on with lm compare."))
                : last with
                {
                    Tokens = TokenCount.Parse(arguments.GetValue(shortTokens)!),
                    Sizes = last.Sizes with { SegmentLength = Shorter(arguments.GetValue(shortSegment), last.Sizes.SegmentLength) },
                };
            var before = last.From ?? Path.Combine(folder, $"segment-{first.Sizes.SegmentLength}");
            last = last with { From = before };

            var chosen = arguments.GetValue(systems)!.Select(ComparedSystem.Named).ToArray();
            (Experiment Experiment, string Folder, ComparedSystem[] Systems)[] stages = [(first, before, [.. chosen.Select(system => system.FromBase.First()).Distinct()]), (last, folder, chosen)];
            var runs = Array.ConvertAll(stages, stage => new ComparisonRun(stage.Experiment, stage.Folder, stage.Systems, arguments.GetValue(seeds)!)
            {
                Workers = arguments.GetValue(workers),
                Log = options.Log(arguments) is { } log ? Path.Combine(log, $"segment-{stage.Experiment.Sizes.SegmentLength}") : null,
            });
            Array.ForEach(runs, run => run.Check());
            Array.ForEach(stages, stage => stage.Experiment.Claim(stage.Folder)); // so that --resume knows both from the beginning
            foreach (var (stage, run) in stages.Zip(runs))
            {
                AnsiConsole.Write(new Rule($"Segments of {stage.Experiment.Sizes.SegmentLength} tokens").LeftJustified());
                if (await LmCommand.Run(run, stage.Folder, cancellation) is not Cli.Success and var code)
                {
                    return code;
                }
            }

            return Cli.Success;
        });
        return command;
    }

    private static int Shorter(int segment, long longer) => LmOptions.IsSegment(segment, longer / 2)
        ? segment
        : throw new InputException($"--short-segment is {segment}; it must be a power of two from 8 to {longer / 2}, half of --segment.");
}
