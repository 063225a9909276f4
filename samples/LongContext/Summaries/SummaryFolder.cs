using System.Text.Json;
using LongContext.Comparison;
using LongContext.LanguageModel;
using TorchSharp;

namespace LongContext.Summaries;

/// <summary>The folder of a training: its settings, its encoding, a checkpoint until it has ended, and then the weights.</summary>
/// <param name="path">The folder.</param>
public sealed class SummaryFolder(string path)
{
    private const string System = "norm-delta";

    private static readonly JsonSerializerOptions Format = new() { WriteIndented = true };

    public string Path => path;

    public string Checkpoint => File("checkpoint");

    public bool IsFinished => global::System.IO.File.Exists(Weights);

    private string Weights => File("weights");

    private string SettingsFile => File("settings.json");

    private string Merges => File("merges.bin");

    /// <summary>Begins a training: writes settings and encoding.</summary>
    public void Begin(SummarySettings settings, SummaryEncoding encoding)
    {
        AtomicFile.Check(Weights);
        global::System.IO.File.Delete(Weights);
        global::System.IO.File.Delete(Checkpoint);
        AtomicFile.Write(Merges, file => file.Write(encoding.Pairs.ToBytes()));
        AtomicFile.Write(SettingsFile, JsonSerializer.Serialize(settings, Format));
    }

    /// <summary>What <see cref="Begin"/> wrote.</summary>
    public (SummarySettings Settings, SummaryEncoding Encoding) Load()
    {
        if (!global::System.IO.File.Exists(SettingsFile) || !global::System.IO.File.Exists(Merges))
        {
            throw new InputException($"There is no training of summaries in '{path}'.");
        }

        try
        {
            return (JsonSerializer.Deserialize<SummarySettings>(global::System.IO.File.ReadAllText(SettingsFile))!, new(BytePairs.FromBytes(global::System.IO.File.ReadAllBytes(Merges))));
        }
        catch (JsonException error)
        {
            throw new InputException($"'{SettingsFile}' describes no training: {error.Message}");
        }
    }

    public static Decoder Create(SummarySettings settings)
    {
        torch.manual_seed(settings.Seed);
        return ComparedSystem.Named(System).Create(settings.Sizes);
    }

    public void Save(Decoder model) => AtomicFile.Write(Weights, file =>
    {
        using var writer = new BinaryWriter(file, global::System.Text.Encoding.UTF8, leaveOpen: true);
        model.save(writer);
    });

    /// <summary>The trained model.</summary>
    public Decoder Model(SummarySettings settings)
    {
        if (!IsFinished)
        {
            throw new InputException($"The training in '{path}' has not ended: go on with 'summary train --resume'.");
        }

        var model = Create(settings);
        model.load(Weights);
        return model;
    }

    private string File(string name) => global::System.IO.Path.Combine(path, name);
}
