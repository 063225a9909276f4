using System.IO.Compression;
using System.Text.Json;
using InfiniAttention;
using LongContext.Models;
using TorchSharp.Modules;

namespace LongContext.Passkey;

/// <summary>A checkpoint of a training run: a zip file with the weights, the optimiser's state and the progress in the curriculum.</summary>
public static class Checkpoint
{
    private const string Weights = "weights.safetensors", Optimizer = "optimizer", State = "state.json";

    private sealed record Saved(MemoryUpdate Rule, int Seed, MemoryVariant Memory, bool WeighsFiller, IReadOnlyList<string> Books, Curriculum.Standing Standing, double Seconds);

    public static void Save(string path, Decoder model, OptimizerHelper optimizer, TrainingSettings settings,
        Curriculum.Standing standing, double seconds) => AtomicFile.Write(path, file =>
    {
        using var zip = new ZipArchive(file, ZipArchiveMode.Create, leaveOpen: true);
        using (var entry = zip.CreateEntry(State).Open())
        {
            JsonSerializer.Serialize(entry, new Saved(settings.Rule, settings.Seed, settings.Memory, settings.WeighsFiller, Names(settings), standing, seconds));
        }

        using (var entry = zip.CreateEntry(Weights).Open())
        {
            WeightsFile.Write(entry, model);
        }

        using var writer = new BinaryWriter(zip.CreateEntry(Optimizer).Open());
        optimizer.save_state_dict(writer);
    });

    public static (Curriculum.Standing Standing, double Seconds) Load(string path, Decoder model, OptimizerHelper optimizer,
        TrainingSettings settings)
    {
        if (!File.Exists(path))
        {
            throw new InputException($"There is no checkpoint '{path}' to resume from.");
        }

        try
        {
            using var zip = ZipFile.OpenRead(path);
            var saved = JsonSerializer.Deserialize<Saved>(ZipEntries.Content(zip, State))!;
            if (saved.Rule != settings.Rule || saved.Seed != settings.Seed || saved.Memory != settings.Memory || saved.WeighsFiller != settings.WeighsFiller
                || !saved.Books.SequenceEqual(Names(settings)))
            {
                throw new InputException($"The checkpoint '{path}' belongs to another run: rule {saved.Rule}, seed {saved.Seed}, {saved.Memory}, {(saved.WeighsFiller ? "weighted" : "plain")} filler, "
                    + $"haystacks {(saved.Books.Count == 0 ? "none" : string.Join(", ", saved.Books))}.");
            }
            WeightsFile.LoadInto(model, ZipEntries.Content(zip, Weights), path);
            using var reader = new BinaryReader(new MemoryStream(ZipEntries.Content(zip, Optimizer)));
            optimizer.load_state_dict(reader);
            return (saved.Standing, saved.Seconds);
        }
        catch (Exception error) when (error is InvalidDataException or JsonException or EndOfStreamException)
        {
            throw new InputException($"'{path}' is not a checkpoint of this program, or is damaged: {error.Message}");
        }
    }

    private static List<string> Names(TrainingSettings settings) => [.. settings.Books.Select(book => book.Name)];
}
