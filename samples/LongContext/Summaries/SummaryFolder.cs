using System.Text.Json;
using LongContext.Comparison;
using LongContext.LanguageModel;
using TorchSharp;

namespace LongContext.Summaries;

/// <summary>The folder of a training: its settings, its encoding, a checkpoint until it has ended, and then the weights.</summary>
/// <param name="location">The folder's path.</param>
public sealed class SummaryFolder(string location)
{
    private const string SystemName = "norm-delta";

    private static readonly JsonSerializerOptions Format = new() { WriteIndented = true };

    public string Location => location;

    public string Checkpoint => PathOf("checkpoint");

    public bool IsFinished => File.Exists(Weights);

    private string Weights => PathOf("weights");

    private string Settings => PathOf("settings.json");

    private string Merges => PathOf("merges.bin");

    /// <summary>Begins a training: writes settings and encoding.</summary>
    /// <exception cref="InputException">The folder already holds a trained model or a checkpoint.</exception>
    public void Begin(SummarySettings settings, SummaryEncoding encoding)
    {
        if (IsFinished || File.Exists(Checkpoint))
        {
            throw new InputException($"'{location}' already holds a training: go on with --resume, or give another --output.");
        }

        AtomicFile.Write(Merges, file => file.Write(encoding.Pairs.ToBytes()));
        AtomicFile.Write(Settings, JsonSerializer.Serialize(settings, Format));
    }

    /// <summary>What <see cref="Begin"/> wrote.</summary>
    public (SummarySettings Settings, SummaryEncoding Encoding) Load()
    {
        if (!File.Exists(Settings) || !File.Exists(Merges))
        {
            throw new InputException($"There is no training of summaries in '{location}'.");
        }

        try
        {
            return (JsonSerializer.Deserialize<SummarySettings>(File.ReadAllText(Settings))!, new(BytePairs.FromBytes(File.ReadAllBytes(Merges))));
        }
        catch (JsonException error)
        {
            throw new InputException($"'{Settings}' describes no training: {error.Message}");
        }
    }

    /// <summary>A model with the initial weights of a training.</summary>
    public static ContextDecoder Create(SummarySettings settings)
    {
        torch.manual_seed(settings.Seed);
        var model = ComparedSystem.Named(SystemName).Create(settings.Sizes);
        if (settings.IsLocal)
        {
            model.CloseGates();
        }

        return model;
    }

    public void Save(ContextDecoder model) => AtomicFile.Write(Weights, file =>
    {
        using var writer = new BinaryWriter(file, System.Text.Encoding.UTF8, leaveOpen: true);
        model.save(writer);
    });

    /// <summary>The trained model.</summary>
    public ContextDecoder Model(SummarySettings settings)
    {
        if (!IsFinished)
        {
            throw new InputException($"The training in '{location}' has not ended: go on with 'summary train --resume'.");
        }

        var model = Create(settings);
        model.load(Weights);
        return model;
    }

    private string PathOf(string name) => Path.Combine(location, name);
}
