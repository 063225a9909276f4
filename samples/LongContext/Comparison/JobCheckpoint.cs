using System.IO.Compression;
using System.Text.Json;
using LongContext.LanguageModel;
using TorchSharp.Modules;

namespace LongContext.Comparison;

/// <summary>A training to be continued: a zip file of the weights, the optimiser's state and the next step.</summary>
public static class JobCheckpoint
{
    private const string Weights = "weights", Optimizer = "optimizer", State = "state.json";

    private sealed record Saved(int Step, double Seconds);

    public static void Save(string path, Decoder model, OptimizerHelper optimizer, int step, double seconds) => AtomicFile.Write(path, file =>
    {
        using var zip = new ZipArchive(file, ZipArchiveMode.Create, leaveOpen: true);
        using (var entry = zip.CreateEntry(State).Open())
        {
            JsonSerializer.Serialize(entry, new Saved(step, seconds));
        }

        using (var writer = new BinaryWriter(zip.CreateEntry(Weights).Open()))
        {
            model.save(writer);
        }

        using (var writer = new BinaryWriter(zip.CreateEntry(Optimizer).Open()))
        {
            optimizer.save_state_dict(writer);
        }
    });

    /// <returns>The next step, and the seconds that those before it took.</returns>
    public static (int Step, double Seconds) Load(string path, Decoder model, OptimizerHelper optimizer)
    {
        try
        {
            using var zip = ZipFile.OpenRead(path);
            using var weights = Reader(zip, Weights);
            using var state = Reader(zip, Optimizer);
            var saved = JsonSerializer.Deserialize<Saved>(ZipEntries.Content(zip, State))!;
            model.load(weights);
            optimizer.load_state_dict(state);
            return (saved.Step, saved.Seconds);
        }
        catch (Exception error) when (error is InvalidDataException or JsonException or EndOfStreamException)
        {
            throw new InputException($"'{path}' is not a checkpoint of this program, or is damaged: {error.Message} Delete it to begin again.");
        }
    }

    private static BinaryReader Reader(ZipArchive zip, string name) => new(new MemoryStream(ZipEntries.Content(zip, name)));
}
