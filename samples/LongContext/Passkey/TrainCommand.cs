using System.CommandLine;
using System.Globalization;
using InfiniAttention;
using LongContext.Models;
using Spectre.Console;

namespace LongContext.Passkey;

/// <summary><c>passkey train</c>: trains the shipped weights again from scratch, on inputs of at most 5K tokens.</summary>
public static class TrainCommand
{
    private const int LogEvery = 100, CheckpointEvery = 200;

    /// <summary>The files of one rule's training: the weights when it has ended, a checkpoint until then.</summary>
    private sealed record Files(DirectoryInfo Folder, MemoryUpdate Rule)
    {
        public string Name => $"passkey-{Rule.ToString().ToLowerInvariant()}";
        public string Weights => Path.Combine(Folder.FullName, $"{Name}.safetensors");
        public string Checkpoint => Path.Combine(Folder.FullName, $"{Name}.checkpoint");
        public bool HasWeights => File.Exists(Weights);
        public bool HasCheckpoint => File.Exists(Checkpoint);
    }

    public static Command Create()
    {
        var output = new Option<DirectoryInfo>("--output")
        {
            Description = "The folder that gets passkey-linear.safetensors and passkey-delta.safetensors.",
            DefaultValueFactory = _ => new DirectoryInfo("weights"),
        };
        var resume = new Option<bool>("--resume")
        {
            Description = "Continues where an interrupted training stopped: "
                + "rules whose weights are in the output folder are done, a rule with a checkpoint continues.",
        };
        var rule = PasskeyCommand.RuleOption();
        var seed = PasskeyCommand.SeedOption();
        var device = PasskeyCommand.DeviceOption();
        var (memory, localSegments) = (MemoryVariant.Option(), MemoryVariant.LocalSegmentsOption());
        var plainFiller = new Option<bool>("--plain-filler") { Description = "Never multiplies what filler writes to the memory, as in the paper." };
        var haystack = PasskeyCommand.HaystackOption("Texts to hide keys in, in addition to the filler and the generated text that are always used.");
        var command = new Command("train", "Trains weights from scratch.") { rule, seed, memory, localSegments, plainFiller, output, resume, haystack, device };
        command.SetAction((arguments, cancellation) => Task.Run(() => // Ctrl-C has no effect before the action returns its task
        {
            var settings = new TrainingSettings
            {
                Seed = arguments.GetValue(seed),
                Memory = MemoryVariant.Parse(arguments.GetValue(memory)!, arguments.GetValue(localSegments)),
                WeighsFiller = !arguments.GetValue(plainFiller),
                Books = Haystack.FromFiles(arguments.GetValue(haystack)!),
                Device = PasskeyCommand.Device(arguments.GetValue(device)!),
            };
            var folder = arguments.GetValue(output)!;
            var trainings = PasskeyCommand.Rules(arguments.GetValue(rule)!).Select(update => (Settings: settings with { Rule = update }, Files: new Files(folder, update))).ToList();
            var resumes = arguments.GetValue(resume);
            if (resumes && !trainings.Exists(training => training.Files.HasCheckpoint || training.Files.HasWeights))
            {
                throw new InputException($"There is nothing to resume in '{folder}', no checkpoint and no weights: leave --resume out to begin.");
            }

            foreach (var (_, files) in trainings)
            {
                AtomicFile.Check(files.Weights);
            }

            foreach (var (training, files) in trainings)
            {
                if (resumes && files is { HasCheckpoint: false, HasWeights: true })
                {
                    AnsiConsole.WriteLine($"{training.Rule} rule: finished before. Weights: {files.Weights}");
                }
                else
                {
                    Train(training, files, resumes && files.HasCheckpoint, cancellation);
                }

                if (cancellation.IsCancellationRequested)
                {
                    return Cli.Interrupted;
                }
            }
            return Cli.Success;
        }));
        return command;
    }

    private static void Train(TrainingSettings settings, Files files, bool resume, CancellationToken cancellation)
    {
        using var trainer = new Trainer(settings);
        if (resume)
        {
            trainer.Resume(files.Checkpoint);
        }

        var last = new TrainingStep(trainer.Standing, 0, 0, 0);
        AnsiConsole.WriteLine($"{settings.Rule} rule, {trainer.Model.parameters().Sum(parameter => parameter.numel()):N0} parameters, seed {settings.Seed}, "
            + $"inputs of at most {Curriculum.LongestInput * trainer.Model.Attention.SegmentLength} tokens");
        AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new ElapsedTimeColumn())
            .Start(display =>
            {
                var task = display.AddTask(files.Name, maxValue: Curriculum.Stages.Count + 1);
                trainer.Run(step =>
                {
                    last = step;
                    task.Value = Done(step.Standing);
                    task.Description = Markup.Escape($"stage {step.Standing.Stage + 1}, step {step.Standing.Step}: loss {step.Loss:0.000}, digits right {step.Standing.Accuracy:P0}");
                    if (step.Standing.Step % LogEvery == 0)
                    {
                        AnsiConsole.WriteLine(Line(step, trainer.Model));
                    }

                    if (step.Standing.Step % CheckpointEvery == 0)
                    {
                        trainer.SaveCheckpoint(files.Checkpoint, step.Seconds);
                    }
                }, cancellation);
            });

        AnsiConsole.WriteLine(Line(last, trainer.Model));
        if (cancellation.IsCancellationRequested)
        {
            trainer.SaveCheckpoint(files.Checkpoint, last.Seconds);
            AnsiConsole.WriteLine($"Interrupted: go on with --resume. Checkpoint: {files.Checkpoint}");
            return;
        }
        WeightsFile.Save(files.Weights, trainer.Model, new Dictionary<string, string>
        {
            ["seed"] = settings.Seed.ToString(CultureInfo.InvariantCulture),
            ["haystacks"] = string.Join(", ", settings.Books.Select(book => book.Name)),
            ["steps"] = last.Standing.Step.ToString(CultureInfo.InvariantCulture),
            ["seconds"] = last.Seconds.ToString("0", CultureInfo.InvariantCulture),
        });
        File.Delete(files.Checkpoint);
        AnsiConsole.WriteLine($"Trained in {last.Seconds:0} s. Weights: {files.Weights}");
    }

    /// <summary>The number of stages passed, plus the fraction of the final decay.</summary>
    private static double Done(Curriculum.Standing standing) =>
        standing.DecayFrom is { } from ? Curriculum.Stages.Count + (standing.Step - from) / (double)Curriculum.DecaySteps : standing.Stage;

    private static string Line(TrainingStep step, Decoder model)
    {
        var gates = string.Join("; ", InfiniAttentionModule.GateParameters(model).Select(gate => string.Join(" ", gate.detach().cpu().data<float>().ToArray().Select(beta => $"{beta:0.0}"))));
        return $"step {step.Standing.Step,5}  stage {step.Standing.Stage + 1}  loss {step.Loss:0.000}  of the digits {step.DigitLoss:0.000}  "
            + $"digits right {step.Standing.Accuracy,4:P0}  gates {gates}  {step.Seconds:0} s";
    }
}
