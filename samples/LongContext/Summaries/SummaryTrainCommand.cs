using System.CommandLine;
using System.Globalization;
using System.Numerics;
using System.Text;
using LongContext.Comparison;
using LongContext.LanguageModel;
using Spectre.Console;
using static TorchSharp.torch;

namespace LongContext.Summaries;

/// <summary><c>summary train</c>: trains a model to write summaries, of given texts or of generated ones.</summary>
public static class SummaryTrainCommand
{
    private const int LargestVocabulary = 1024, LogEvery = 100, Samples = 300;

    private static readonly TimeSpan CheckpointEvery = TimeSpan.FromSeconds(30);

    public static Command Create()
    {
        var pairs = new Option<FileInfo?>("--pairs")
        {
            Description = """Texts with their summaries to train on, a line of JSON each: {"text": "...", "summary": "..."}. Default: generated ones.""",
        };
        var heldOut = new Option<FileInfo?>("--held-out-pairs") { Description = "Pairs that are not trained on, which 'summary eval' reads; needed with --pairs." };
        var vocabulary = new Option<int>("--vocabulary")
        {
            Description = "Tokens at most: 256 for the bytes, up to 1024 with pairs that are learned from the texts.",
            DefaultValueFactory = _ => LargestVocabulary,
        };
        var baseSteps = new Option<int>("--base-steps") { Description = "Steps on inputs of one segment.", DefaultValueFactory = _ => 600 };
        var steps = new Option<int>("--steps") { Description = "Steps on longer inputs after these.", DefaultValueFactory = _ => 1400 };
        var longest = new Option<string>("--longest") { Description = "Tokens of the longest inputs: a power of two times the segment.", DefaultValueFactory = _ => "2K" };
        var segment = new Option<int>("--segment") { Description = "N, tokens of a segment; at least 32.", DefaultValueFactory = _ => 128 };
        var width = new Option<int>("--width") { Description = "Width of the model.", DefaultValueFactory = _ => 96 };
        var heads = new Option<int>("--heads") { Description = "Heads of a layer.", DefaultValueFactory = _ => 3 };
        var local = new Option<bool>("--local") { Description = "Trains the same model without its memory, by which the one with it can be judged: local attention alone." };
        var rate = new Option<double>("--rate") { Description = "The learning rate.", DefaultValueFactory = _ => 4e-3 };
        var seed = new Option<int>("--seed") { Description = "The seed.", DefaultValueFactory = _ => 1 };
        var resume = new Option<bool>("--resume") { Description = "Goes on with the interrupted training of the output folder; no other option is needed." };
        var output = SummaryCommand.FolderOption();
        var command = new Command("train", "Trains a model to write summaries.") { pairs, heldOut, vocabulary, baseSteps, steps, longest, segment, width, heads, local, rate, seed, resume, output };
        command.SetAction((arguments, cancellation) => Task.Run(() => // Ctrl-C has no effect before the action returns its task
        {
            var folder = new SummaryFolder(arguments.GetValue(output)!.FullName);
            if (arguments.GetValue(resume))
            {
                arguments.Refuse([pairs, heldOut, vocabulary, baseSteps, steps, longest, segment, width, heads, local, rate, seed], "--resume goes on with the training as it was begun");
                var (settings, encoding) = folder.Load();
                if (folder.IsFinished)
                {
                    AnsiConsole.MarkupLineInterpolated($"Finished before: {folder.Location}");
                    return Cli.Success;
                }

                return Train(folder, settings, encoding, cancellation);
            }

            var asked = Settings();
            var given = asked.Pairs is null ? null : SummaryPair.Read(asked.Pairs);
            if (asked.HeldOutPairs is { } file)
            {
                _ = SummaryPair.Read(file).Count(); // an error in it is better known now
            }

            var tokens = arguments.GetValue(vocabulary);
            if (tokens is < BytePairs.Bytes or > LargestVocabulary)
            {
                throw new InputException($"--vocabulary is {tokens}; it must be from {BytePairs.Bytes} to {LargestVocabulary}.");
            }

            var texts = (given ?? YearBookExamples.Samples(Samples)).SelectMany(pair => new[] { pair.Text, "\n" + pair.Summary });
            var learned = new SummaryEncoding(BytePairs.Train(texts.Select(Encoding.UTF8.GetBytes), tokens));
            asked = asked with { Sizes = asked.Sizes with { Vocabulary = learned.Vocabulary } };
            if (given is null)
            {
                new YearBookExamples(learned).Training(asked.Seed, 0, (int)asked.Sizes.SegmentLength + 1); // refuses a segment that is too short
            }

            folder.Begin(asked, learned);
            return Train(folder, asked, learned, cancellation);

            SummarySettings Settings()
            {
                var (n, length) = (arguments.AtLeast(32, segment), TokenCount.Parse(arguments.GetValue(longest)!));
                if (length % n != 0 || !BitOperations.IsPow2(length / n) || length > 1 << 20)
                {
                    throw new InputException($"--longest is {length}; it must be a power of two times the segment of {n} tokens, and at most 1M.");
                }

                var (train, last) = (arguments.GetValue(pairs), arguments.GetValue(heldOut));
                if (train is null != last is null)
                {
                    throw new InputException(last is null ? "--pairs needs --held-out-pairs, pairs that are in no training." : "--held-out-pairs needs --pairs, the file to train on.");
                }

                return new()
                {
                    Pairs = train?.FullName,
                    HeldOutPairs = last?.FullName,
                    Sizes = new DecoderOptions
                    {
                        Vocabulary = 0, // known when the encoding is learned
                        SegmentLength = n,
                        Width = arguments.AtLeast(1, width),
                        Heads = arguments.AtLeast(1, heads),
                    },
                    Seed = arguments.GetValue(seed),
                    BaseSteps = arguments.AtLeast(0, baseSteps),
                    Steps = arguments.AtLeast(0, steps),
                    Longest = (int)length,
                    Rate = arguments.Rate(rate),
                    IsLocal = arguments.GetValue(local),
                };
            }
        }));
        return command;
    }

    private static int Train(SummaryFolder folder, SummarySettings settings, SummaryEncoding encoding, CancellationToken cancellation)
    {
        set_num_threads(1); // the kernels are too small to split across threads
        var examples = SummaryExamples.Of(encoding, settings.Pairs is null ? null : SummaryPair.Read(settings.Pairs));
        using var model = SummaryFolder.Create(settings);
        using var training = new SummaryTraining(model, examples, settings);
        var (first, secondsBefore) = File.Exists(folder.Checkpoint) ? TrainingCheckpoint.Load<TrainingProgress>(folder.Checkpoint, model, training.Optimizer) : new(0, 0);
        AnsiConsole.WriteLine(
            $"{model.parameters().Sum(parameter => parameter.numel()):N0} parameters, {encoding.Vocabulary} tokens, {settings.BaseSteps} + {settings.Steps} steps, seed {settings.Seed}");
        var (clock, last) = (new TrainingClock(CheckpointEvery, secondsBefore), first);
        var (loss, answerLoss) = (double.NaN, double.NaN);
        AnsiConsole.Progress()
            .Columns(new TaskDescriptionColumn { Alignment = Justify.Left }, new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
            .Start(display =>
            {
                var bar = display.AddTask("summaries", maxValue: settings.BaseSteps + settings.Steps);
                training.Run(first, step => clock.Checkpoint(() => Save(step)), step =>
                {
                    (loss, answerLoss) = (TrainingLog.Smooth(loss, step.Loss), TrainingLog.Smooth(answerLoss, step.RecallLoss));
                    (bar.Value, last) = (step.Step, step.Step);
                    bar.Description = Line(step.Step);
                    if (step.Step % LogEvery == 0)
                    {
                        AnsiConsole.WriteLine($"{Line(step.Step)}, {clock.Seconds:0} s");
                    }
                }, cancellation);
            });
        if (cancellation.IsCancellationRequested)
        {
            Save(last);
            AnsiConsole.WriteLine("Interrupted: the same command with --resume goes on.");
            return Cli.Interrupted;
        }

        folder.Save(model);
        File.Delete(folder.Checkpoint);
        AnsiConsole.MarkupLineInterpolated($"Trained in {clock.Seconds:0} s: {folder.Location}");
        return Cli.Success;

        void Save(int step) => TrainingCheckpoint.Save(folder.Checkpoint, new TrainingProgress(step, clock.Seconds), model, training.Optimizer);

        string Line(int step) =>
            string.Create(CultureInfo.InvariantCulture, $"step {step}, inputs of {settings.LengthOf(step - 1)} tokens: loss {loss:0.000}, of the answers {answerLoss:0.000}");
    }
}
