using System.IO.Compression;
using System.Text.Json;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext;

/// <summary>Where a training was.</summary>
/// <param name="Step">The next step.</param>
/// <param name="Seconds">The seconds that the steps before it took.</param>
public sealed record TrainingProgress(int Step, double Seconds);

/// <summary>A training to be continued: a zip file of the weights, the optimiser's state and where it was.</summary>
public static class TrainingCheckpoint
{
    private const string Weights = "weights", Optimizer = "optimizer", Progress = "state.json";

    /// <summary>Writes the file; a reader sees the old one or the new one.</summary>
    /// <param name="path">The file.</param>
    /// <param name="progress">Where the training is.</param>
    /// <param name="model">The model.</param>
    /// <param name="optimizer">The optimiser.</param>
    /// <param name="frozen">Names of weights that are not saved, because they never change.</param>
    public static void Save<T>(string path, T progress, nn.Module model, OptimizerHelper optimizer, IList<string>? frozen = null) => AtomicFile.Write(path, file =>
    {
        using var zip = new ZipArchive(file, ZipArchiveMode.Create, leaveOpen: true);
        using (var entry = zip.CreateEntry(Progress).Open())
        {
            JsonSerializer.Serialize(entry, progress);
        }

        using (var writer = new BinaryWriter(zip.CreateEntry(Weights, CompressionLevel.NoCompression).Open()))
        {
            model.save(writer, frozen);
        }

        using (var writer = new BinaryWriter(zip.CreateEntry(Optimizer, CompressionLevel.NoCompression).Open()))
        {
            optimizer.save_state_dict(writer);
        }
    });

    /// <summary>Reads what <see cref="Save"/> wrote into a model and an optimiser.</summary>
    /// <param name="path">The file.</param>
    /// <param name="model">The model.</param>
    /// <param name="optimizer">The optimiser.</param>
    /// <param name="check">Throws if the file belongs to another training; called before anything is changed.</param>
    /// <param name="frozen">Names of weights that were not saved.</param>
    /// <exception cref="InputException">The file is not a checkpoint of such a training, or is damaged.</exception>
    public static T Load<T>(string path, nn.Module model, OptimizerHelper optimizer, Action<T>? check = null, IReadOnlyCollection<string>? frozen = null)
    {
        try
        {
            using var zip = ZipFile.OpenRead(path);
            var progress = JsonSerializer.Deserialize<T>(ZipEntries.Content(zip, Progress))!;
            check?.Invoke(progress);
            using var weights = new BinaryReader(ZipEntries.Open(zip, Weights));
            using var state = new BinaryReader(ZipEntries.Open(zip, Optimizer));
            var loaded = new Dictionary<string, bool>();
            model.load(weights, strict: frozen is not { Count: > 0 }, loadedParameters: loaded);
            if (model.state_dict().Keys.Except(loaded.Keys).Except(frozen ?? []).FirstOrDefault() is { } missing)
            {
                throw new InvalidDataException($"it holds no '{missing}'.");
            }

            optimizer.load_state_dict(state);
            return progress;
        }
        catch (Exception error) when (error is InvalidDataException or JsonException or EndOfStreamException or ArgumentException)
        {
            throw new InputException($"'{path}' is not a checkpoint of this training, or is damaged: {error.Message} Delete it to begin again.");
        }
    }
}
