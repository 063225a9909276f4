using System.Globalization;
using LongContext.Models;
using Spectre.Console;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>What <c>adapt --model</c> is asked for.</summary>
public sealed record FolderAdaptationSettings
{
    public required string Model { get; init; }
    public required string Output { get; init; }
    public required IReadOnlyList<string> Texts { get; init; }

    /// <summary>Files that are not read in training; none for the last tenth of each text.</summary>
    public IReadOnlyList<string> HeldOut { get; init; } = [];
    public required ConversionOptions Conversion { get; init; }
    public required int Steps { get; init; }
    public required double Rate { get; init; }
    public required int Seed { get; init; }

    /// <summary>Tokens of a sequence; null for eight segments.</summary>
    public long? Length { get; init; }

    /// <summary>Sequences of a step.</summary>
    public int Batch { get; init; } = 1;

    /// <summary>How many held-out sequences are read.</summary>
    public int HeldOutSequences { get; init; } = 8;

    /// <summary>The adapters that are trained in place of the weights; null for none.</summary>
    public LoraSettings? Adapters { get; init; }

    /// <summary>Whether the weights are drawn at random; the folder's are not read.</summary>
    public bool IsNew { get; init; }

    /// <summary>A folder for TensorBoard; null for none.</summary>
    public string? Log { get; init; }
}

/// <summary><c>adapt --model</c>: a model that people have converted, continued on texts, evaluated by position, and saved as a folder.</summary>
public sealed class FolderAdaptation(FolderAdaptationSettings settings)
{
    private const int DefaultSegments = 8;
    private const double HeldOutShare = 0.1;
    private const string CheckpointFile = "training.zip";

    private static readonly Scalar Closed = -30;
    private static readonly TimeSpan SaveEvery = TimeSpan.FromMinutes(1);

    private string CheckpointPath => Path.Combine(settings.Output, CheckpointFile);

    /// <summary>Does all of it; false if it was interrupted.</summary>
    public bool Run(CancellationToken cancellation)
    {
        Directory.CreateDirectory(settings.Output);
        using var scope = NewDisposeScope();
        var conversion = Conversion();
        var config = PretrainedModel.LoadConfig(settings.Model);
        settings.Adapters?.Check(config);
        var segment = config.Attention(conversion).SegmentLength;
        var length = settings.Length ?? DefaultSegments * segment;
        var (texts, heldOut) = Texts();
        var perplexity = PositionPerplexity.Of(heldOut, length, (int)Math.Clamp(length / segment, 1, DefaultSegments), settings.HeldOutSequences);
        var firstSegment = tensor(heldOut[0].AsSpan(0, (int)Math.Min(segment, heldOut[0].Length)).ToArray()).unsqueeze(0);
        var (plain, outputs) = Plain(config, length, firstSegment, perplexity, cancellation); // and gone before the other is loaded: memory holds one model at a time
        double[]? continued = null, closed = null;

        manual_seed(settings.Seed);
        using var model = settings.IsNew ? PretrainedModel.CreateDecoder(settings.Model, conversion) : PretrainedModel.LoadDecoder(settings.Model, conversion);
        if (settings.Adapters is { } adapters)
        {
            model.AddAdapters(adapters);
            var (all, trained) = (Parameters(model.parameters()), Parameters(model.parameters().Where(parameter => parameter.requires_grad)));
            AnsiConsole.WriteLine(string.Create(CultureInfo.InvariantCulture, $"adapters of rank {adapters.Rank}: {trained:N0} parameters are trained, {all - trained:N0} stay as they are"));
        }

        Compare(outputs, model, firstSegment);
        var converted = Measure(perplexity, model, cancellation);
        var isDone = Train(model, texts, length, Origin(conversion), cancellation);
        if (isDone)
        {
            model.MergeAdapters();
            continued = Measure(perplexity, model, cancellation);
            closed = MeasureClosed(perplexity, model, cancellation);
        }

        Show([("plain, attends to all", plain), ("converted, before", converted), ("continued, after", continued), ("after, memory off", closed)], length);
        if (!isDone)
        {
            AnsiConsole.WriteLine($"Interrupted: the same command goes on from {CheckpointPath}.");
            return false;
        }

        var hasMemory = !settings.IsNew || length > segment; // a new model that has read single segments never used its memory: it is a plain one
        PretrainedModel.Save(model, hasMemory ? conversion : null, settings.Model, settings.Output);
        AnsiConsole.WriteLine($"Saved: {settings.Output}");
        return closed is not null;
    }

    /// <summary>How attention is converted, or was: a folder that was converted already cannot be converted in another way.</summary>
    private ConversionOptions Conversion()
    {
        if (PretrainedModel.SavedOptions(settings.Model) is not { } saved)
        {
            return settings.Conversion;
        }

        var given = settings.Conversion with { SegmentLength = settings.Conversion.SegmentLength ?? saved.SegmentLength };
        return given == saved ? saved
            : throw new InputException($"'{settings.Model}' was converted already, with {saved}: give the same --segment, --gate, --rule, --memory and --local-segments.");
    }

    private string Origin(ConversionOptions conversion) =>
        $"{(settings.IsNew ? "new weights of " : "")}{settings.Model}, {conversion}, read {string.Join(", ", settings.Texts)}, held out {string.Join(", ", settings.HeldOut)}";

    /// <summary>The perplexities; null if interrupted.</summary>
    private static double[]? Measure(PositionPerplexity perplexity, Decoder model, CancellationToken cancellation)
    {
        try
        {
            return perplexity.Measure(model, cancellation);
        }
        catch (OperationCanceledException)
        {
            return null;
        }
    }

    /// <summary>The perplexities of the same weights with their gates closed to the memory.</summary>
    private static double[]? MeasureClosed(PositionPerplexity perplexity, Decoder model, CancellationToken cancellation)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Tensor[] gates = [.. model.Body.Layers.Select(layer => layer.Infini.Gate)], kept = [.. gates.Select(gate => gate.clone())];
        Array.ForEach(gates, gate => gate.fill_(Closed));
        try
        {
            return Measure(perplexity, model, cancellation);
        }
        finally
        {
            foreach (var (gate, before) in gates.Zip(kept))
            {
                gate.copy_(before);
            }
        }
    }

    /// <summary>
    /// The perplexities of the model before the conversion, in whose view is the whole sequence, and the outputs of its layers for a segment; null and none if it was not made for
    /// so many tokens.
    /// </summary>
    private (double[]? Perplexities, IReadOnlyList<Tensor> Outputs) Plain(DecoderConfig config, long length, Tensor segment, PositionPerplexity perplexity, CancellationToken cancellation)
    {
        if (settings.IsNew)
        {
            return (null, []);
        }

        var options = new ConversionOptions { SegmentLength = length };
        try
        {
            config.Attention(options);
        }
        catch (InputException error)
        {
            AnsiConsole.WriteLine($"Not compared with the plain model: {error.Message}");
            return (null, []);
        }

        using var noGrad = no_grad();
        using var plain = PretrainedModel.LoadDecoder(settings.Model, options);
        return (Measure(perplexity, plain, cancellation), plain.Body.OutputsOfLayers(segment));
    }

    /// <summary>The tokens of the texts in native memory, of which there is more than of the collector's, and those of the held-out texts.</summary>
    private (List<Tensor> Texts, List<long[]> HeldOut) Texts()
    {
        using var tokenizer = PretrainedModel.LoadTokenizer(settings.Model);
        List<long[]> heldOut = [.. settings.HeldOut.Select(Tokens)];
        var texts = new List<Tensor>();
        foreach (var path in settings.Texts)
        {
            var text = Tokens(path);
            var kept = settings.HeldOut.Count > 0 ? text.Length : (int)(text.Length * (1 - HeldOutShare));
            texts.Add(tensor(text.AsSpan(0, kept).ToArray(), ScalarType.Int32));
            if (kept < text.Length)
            {
                heldOut.Add(text[kept..]);
            }
        }

        return (texts, heldOut);

        long[] Tokens(string path) => tokenizer.Encode(File.ReadAllText(path));
    }

    private static long Parameters(IEnumerable<Parameter> parameters) => parameters.Sum(parameter => parameter.numel());

    /// <summary>Shows, layer by layer, that a segment's outputs are those of the plain model.</summary>
    private static void Compare(IReadOnlyList<Tensor> plain, Decoder converted, Tensor segment)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        foreach (var ((before, after), layer) in plain.Zip(converted.Body.OutputsOfLayers(segment)).Select((pair, layer) => (pair, layer)))
        {
            var difference = before.sub(after).abs().max().item<float>();
            var largest = before.abs().max().item<float>();
            AnsiConsole.WriteLine(string.Create(CultureInfo.InvariantCulture, $"layer {layer + 1} converted: outputs differ by {difference:0.0E+0} at most, of up to {largest:0.0}"));
        }
    }

    /// <summary>Trains from the last checkpoint on; whether it came to the end.</summary>
    private bool Train(Decoder model, List<Tensor> texts, long length, string origin, CancellationToken cancellation) => AnsiConsole.Progress()
        .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
        .Start(display =>
        {
            using var training = new FolderTraining(model, texts, new(length, settings.Steps, settings.Rate, settings.Seed, settings.Batch, settings.Adapters, origin));
            var first = File.Exists(CheckpointPath) ? training.Load(CheckpointPath) : 0;
            var name = $"{settings.Batch * length} tokens a step";
            var task = display.AddTask(name, maxValue: settings.Steps);
            task.Value = first;
            var (average, clock) = (0.0, new TrainingClock(SaveEvery));
            var log = settings.Log is { } folder ? new FolderTrainingLog(folder) : null;
            var next = training.Run(first, done =>
            {
                log?.Add(done);
                average += (done.Loss - average) / Math.Min(done.Step - first, 30);
                task.Description = string.Create(CultureInfo.InvariantCulture, $"{name}: loss {average:0.000}");
                task.Value = done.Step;
                clock.Checkpoint(() => training.Save(CheckpointPath, done.Step));
            }, cancellation);
            training.Save(CheckpointPath, next);
            return next == settings.Steps;
        });

    private static void Show((string Name, double[]? Perplexities)[] columns, long length)
    {
        var table = new Table { Title = new TableTitle("Perplexity of held-out text") };
        table.AddColumns(["tokens", .. columns.Select(column => column.Name)]);
        var bins = columns.Max(column => column.Perplexities?.Length ?? 0);
        for (var bin = 0; bin < bins; bin++)
        {
            table.AddRow([$"{bin * length / bins} to {((bin + 1) * length / bins) - 1}", .. columns.Select(column => column.Perplexities?[bin].ToString("0.00", CultureInfo.InvariantCulture) ?? "–")]);
        }

        AnsiConsole.Write(table);
    }
}
