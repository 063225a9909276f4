using System.CommandLine;
using System.Globalization;
using InfiniAttention;
using Spectre.Console;

namespace LongContext.Passkey;

/// <summary><c>passkey train</c>: makes the shipped weights again, from nothing, on inputs of at most 5K tokens.</summary>
public static class TrainCommand
{
    private const int LogEvery = 100, CheckpointEvery = 200;

    public static Command Create()
    {
        var output = new Option<DirectoryInfo>("--output") { Description = "The folder that gets passkey-linear.safetensors and passkey-delta.safetensors.", DefaultValueFactory = _ => new DirectoryInfo("weights") };
        var resume = new Option<bool>("--resume") { Description = "Goes on from the checkpoint that an interrupted training left in the output folder." };
        var rule = PasskeyCommand.RuleOption();
        var seed = PasskeyCommand.SeedOption();
        var device = PasskeyCommand.DeviceOption();
        var haystack = PasskeyCommand.HaystackOption("Texts to hide keys in, beside the filler and the made-up text that are always used.");
        var command = new Command("train", "Trains weights from nothing.") { rule, seed, output, resume, haystack, device };
        command.SetAction((arguments, cancellation) => Task.Run(() => // Ctrl-C is heard only once the action has returned its task
        {
            var books = Haystack.FromFiles(arguments.GetValue(haystack)!);
            foreach (var update in PasskeyCommand.Rules(arguments.GetValue(rule)!))
            {
                var settings = new TrainingSettings
                {
                    Rule = update,
                    Seed = arguments.GetValue(seed),
                    Books = books,
                    Device = PasskeyCommand.Device(arguments.GetValue(device)!),
                };
                Train(settings, arguments.GetValue(output)!, arguments.GetValue(resume), cancellation);
                if (cancellation.IsCancellationRequested)
                    return Cli.Interrupted;
            }
            return Cli.Success;
        }));
        return command;
    }

    private static void Train(TrainingSettings settings, DirectoryInfo folder, bool resume, CancellationToken cancellation)
    {
        var name = $"passkey-{settings.Rule.ToString().ToLowerInvariant()}";
        var (weights, checkpoint) = (Path.Combine(folder.FullName, $"{name}.safetensors"), Path.Combine(folder.FullName, $"{name}.checkpoint"));
        using var trainer = new Trainer(settings);
        if (resume && (File.Exists(checkpoint) || !File.Exists(weights)))
            trainer.Resume(checkpoint);
        else if (resume)
            return; // this rule was finished before the interruption

        var last = new TrainingStep(trainer.Standing, 0, 0, 0);
        AnsiConsole.WriteLine($"{settings.Rule} rule, {trainer.Model.parameters().Sum(parameter => parameter.numel()):N0} parameters, seed {settings.Seed}, "
            + $"inputs of at most {Curriculum.LongestInput * trainer.Model.Options.SegmentLength} tokens");
        AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new ElapsedTimeColumn())
            .Start(display =>
            {
                var task = display.AddTask(name, maxValue: Curriculum.Stages.Count + 1);
                trainer.Run(step =>
                {
                    last = step;
                    task.Value = Done(step.Standing);
                    task.Description = Markup.Escape($"stage {step.Standing.Stage + 1}, step {step.Standing.Step}: loss {step.Loss:0.000}, digits right {step.Standing.Accuracy:P0}");
                    if (step.Standing.Step % LogEvery == 0)
                        AnsiConsole.WriteLine(Line(step, trainer.Model));
                    if (step.Standing.Step % CheckpointEvery == 0)
                        trainer.SaveCheckpoint(checkpoint, step.Seconds);
                }, cancellation);
            });

        AnsiConsole.WriteLine(Line(last, trainer.Model));
        if (cancellation.IsCancellationRequested)
        {
            trainer.SaveCheckpoint(checkpoint, last.Seconds);
            AnsiConsole.WriteLine($"Interrupted: go on with --resume. Checkpoint: {checkpoint}");
            return;
        }
        WeightsFile.Save(weights, trainer.Model, new Dictionary<string, string>
        {
            ["seed"] = settings.Seed.ToString(CultureInfo.InvariantCulture),
            ["haystacks"] = string.Join(", ", settings.Books.Select(book => book.Name)),
            ["steps"] = last.Standing.Step.ToString(CultureInfo.InvariantCulture),
            ["seconds"] = last.Seconds.ToString("0", CultureInfo.InvariantCulture),
        });
        File.Delete(checkpoint);
        AnsiConsole.WriteLine($"Trained in {last.Seconds:0} s. Weights: {weights}");
    }

    /// <summary>Stages passed, and how much of the final decay.</summary>
    private static double Done(Curriculum.Standing standing) =>
        standing.DecayFrom is { } from ? Curriculum.Stages.Count + (standing.Step - from) / (double)Curriculum.DecaySteps : standing.Stage;

    private static string Line(TrainingStep step, InfiniTransformer model)
    {
        var gates = string.Join("; ", InfiniAttentionModule.GateParameters(model).Select(gate => string.Join(" ", gate.detach().cpu().data<float>().ToArray().Select(beta => $"{beta:0.0}"))));
        return $"step {step.Standing.Step,5}  stage {step.Standing.Stage + 1}  loss {step.Loss:0.000}  of the digits {step.DigitLoss:0.000}  "
            + $"digits right {step.Standing.Accuracy,4:P0}  gates {gates}  {step.Seconds:0} s";
    }
}
