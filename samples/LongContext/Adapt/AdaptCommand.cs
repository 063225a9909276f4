using System.CommandLine;
using InfiniAttention;
using LongContext.Models;
using Spectre.Console;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>
/// <c>adapt</c>: trains a plain LLaMA-style decoder on short inputs, converts it layer by layer, and continues it on long ones,
/// as one would do with an existing model.
/// </summary>
public static class AdaptCommand
{
    /// <summary>Beyond this length the plain model's full attention takes minutes.</summary>
    private const int LongestPlain = 4096;

    private const string GatesMap = "gates.svg", RetrievalMap = "retrieval.svg";

    public static Command Create()
    {
        var rule = new Option<string>("--rule") { Description = "The update rule: linear or delta.", DefaultValueFactory = _ => "linear" };
        var seed = new Option<int>("--seed") { Description = "The random seed.", DefaultValueFactory = _ => 1 };
        var plainSteps = new Option<int>("--plain-steps") { Description = "Training steps of the plain model.", DefaultValueFactory = _ => new AdaptSettings().PlainSteps };
        var steps = new Option<int>("--steps") { Description = "Training steps after the conversion.", DefaultValueFactory = _ => new AdaptSettings().ContinuedSteps };
        var longest = new Option<string>("--longest") { Description = "The longest input that is tried at the end.", DefaultValueFactory = _ => "64K" };
        var svg = new Option<DirectoryInfo?>("--svg") { Description = "Also writes heat maps of gates and retrieval errors into this folder." };
        var (memory, localSegments) = (MemoryVariant.Option(), MemoryVariant.LocalSegmentsOption());
        var plainFiller = new Option<bool>("--plain-filler") { Description = "Never multiplies what filler writes to the memory, as in the paper." };
        var command = new Command("adapt", "Converts a plain transformer that it trains, or with --model one that you have, and teaches it to use what is beyond its window.")
        {
            rule, seed, memory, localSegments, plainFiller, plainSteps, steps, longest, svg,
        };
        var folder = new FolderOptions();
        folder.AddTo(command);
        command.SetAction((arguments, cancellation) => Task.Run(() => // Ctrl-C has no effect before the action returns its task
        {
            if (folder.Settings(arguments, Rule(arguments.GetValue(rule)!), MemoryVariant.Parse(arguments.GetValue(memory)!, arguments.GetValue(localSegments)),
                arguments.AtLeast(1, steps), arguments.GetValue(seed)) is { } adaptation)
            {
                arguments.Refuse([plainFiller, plainSteps, longest, svg], "With --model no model is trained first");
                return new FolderAdaptation(adaptation).Run(cancellation) ? Cli.Success : Cli.Interrupted;
            }

            var settings = new AdaptSettings
            {
                Rule = Rule(arguments.GetValue(rule)!),
                Seed = arguments.GetValue(seed),
                Memory = MemoryVariant.Parse(arguments.GetValue(memory)!, arguments.GetValue(localSegments)),
                WeighsFiller = !arguments.GetValue(plainFiller),
                PlainSteps = arguments.AtLeast(1, plainSteps),
                ContinuedSteps = arguments.AtLeast(1, steps),
            };
            var length = TokenCount.Parse(arguments.GetValue(longest)!);
            if (length < 2 * settings.Window || length > 1 << 20)
            {
                throw new InputException($"--longest is {length}; it must be from {2 * settings.Window} to {TokenCount.Format(1 << 20)} tokens.");
            }

            var maps = arguments.GetValue(svg);
            if (maps is not null)
            {
                AtomicFile.Check(Path.Combine(maps.FullName, GatesMap));
                AtomicFile.Check(Path.Combine(maps.FullName, RetrievalMap));
            }
            Run(settings, (int)length, maps, cancellation);
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        }));
        return command;
    }

    private static MemoryUpdate Rule(string text) => text.ToLowerInvariant() switch
    {
        "linear" => MemoryUpdate.Linear,
        "delta" => MemoryUpdate.Delta,
        _ => throw new InputException($"There is no update rule '{text}': it is linear or delta."),
    };

    private static void Run(AdaptSettings settings, int longest, DirectoryInfo? svg, CancellationToken cancellation)
    {
        manual_seed(settings.Seed);
        set_num_threads(1); // the kernels are too small to split across threads
        using var scope = NewDisposeScope();
        var trainer = new AdaptTrainer(settings);
        var evaluator = new RecallEvaluator(settings);

        var plain = PlainDecoder.Create();
        Train($"plain, {settings.Window} tokens", settings.PlainSteps, done => trainer.TrainPlain(plain, done, cancellation));
        if (cancellation.IsCancellationRequested)
        {
            AnsiConsole.WriteLine("Interrupted: nothing was measured so far.");
            return;
        }

        var model = Convert(plain, settings, evaluator);
        var gates = Gates(model);
        var lengths = Lengths(settings.Window, longest);
        var ofPlain = Measure(lengths.TakeWhile(length => length <= LongestPlain), length => evaluator.Plain(plain, length), cancellation);
        var converted = Measure(lengths, length => evaluator.Streamed(model, length, cancellation), cancellation);
        if (!cancellation.IsCancellationRequested)
        {
            Train($"continued, up to {settings.LongestSegments * settings.Window} tokens", settings.ContinuedSteps, done => trainer.Continue(model, done, cancellation));
        }

        var segments = new List<SegmentReport>();
        IReadOnlyList<LayerReport>? memories = null;
        var continued = Measure(lengths[..^1], length => evaluator.Streamed(model, length, cancellation), cancellation);
        continued.AddRange(Measure(
            lengths[^1..],
            length => evaluator.Streamed(model, length, cancellation, stream => stream.SegmentWritten += segments.Add, stream => memories = stream.Report()),
            cancellation));
        var report = new AdaptReport
        {
            Settings = settings,
            Recall = [.. lengths.Take(Math.Max(ofPlain.Count, converted.Count)).Select((length, i) => new RecallRow(length, At(ofPlain, i), At(converted, i), At(continued, i)))],
            Before = gates,
            After = memories ?? Gates(model),
            Segments = segments,
        };
        if (memories is null)
        {
            ShowInterrupted(report);
        }
        else
        {
            Show(report, svg);
        }

        static double? At(List<double> shares, int i) => i < shares.Count ? shares[i] : null;
    }

    /// <summary>Converts a copy of the plain model layer by layer and compares its outputs after each layer.</summary>
    private static Decoder Convert(Decoder plain, AdaptSettings settings, RecallEvaluator evaluator)
    {
        var model = PlainDecoder.Create();
        model.load_state_dict(plain.state_dict());
        for (var layer = 0; layer < PlainDecoder.Config.Layers; layer++)
        {
            PlainDecoder.Convert(model, layer, settings);
            var (difference, largest) = evaluator.Compare(plain, model);
            AnsiConsole.MarkupLineInterpolated($"layer {layer + 1} converted: logits differ by {difference:0.0E+0} at most, of up to {largest:0.0}");
        }
        return model;
    }

    private static void Train(string name, int steps, Action<Action<AdaptStep>> train) => AnsiConsole.Progress()
        .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
        .Start(display =>
        {
            var task = display.AddTask(name, maxValue: steps);
            var accuracy = 0.0;
            train(done =>
            {
                accuracy += (done.Accuracy - accuracy) / Math.Min(done.Step, 30);
                task.Description = $"{name}: loss {done.Loss:0.00}, recall {accuracy:P0}".EscapeMarkup();
                task.Increment(1);
            });
        });

    /// <summary>The share of right answers at each length that was measured before a cancellation.</summary>
    private static List<double> Measure(IEnumerable<int> lengths, Func<int, double?> measure, CancellationToken cancellation)
    {
        var shares = new List<double>();
        foreach (var length in lengths)
        {
            if (cancellation.IsCancellationRequested || measure(length) is not { } share)
            {
                break;
            }

            shares.Add(share);
        }
        return shares;
    }

    private static IReadOnlyList<LayerReport> Gates(Decoder model)
    {
        using var stream = new SegmentStreamer(model);
        return stream.Report();
    }

    /// <summary>The window, twice and four times the window, then each length four times the one before, up to the longest.</summary>
    private static int[] Lengths(int window, int longest)
    {
        var lengths = new List<int> { window };
        for (var length = 2 * window; length < longest; length *= length < 4 * window ? 2 : 4)
        {
            lengths.Add(length);
        }

        return [.. lengths, longest];
    }

    private static void ShowInterrupted(AdaptReport report)
    {
        AnsiConsole.WriteLine("Interrupted: this is what was measured so far.");
        AnsiConsole.Write(report.RecallTable());
        AnsiConsole.Write(report.GateTable());
    }

    private static void Show(AdaptReport report, DirectoryInfo? svg)
    {
        AnsiConsole.Write(report.RecallTable());
        AnsiConsole.Write(report.GateTable());
        AnsiConsole.Write(report.MemoryTable());
        if (report.Settings.WeighsFiller)
        {
            AnsiConsole.WriteLine("The continuation multiplies what filler writes to the memory, by up to 100, so that short inputs stand for long ones. The paper does not.");
        }

        if (svg is null)
        {
            return;
        }

        foreach (var (name, text) in new[] { (GatesMap, report.GatesSvg()), (RetrievalMap, report.RetrievalSvg()) })
        {
            var path = Path.Combine(svg.FullName, name);
            AtomicFile.Write(path, text);
            AnsiConsole.MarkupLineInterpolated($"Heat map: {path}");
        }
    }
}
