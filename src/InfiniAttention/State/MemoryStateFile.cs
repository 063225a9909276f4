using System.Globalization;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>A state of one layer as a safetensors file.</summary>
internal static class MemoryStateFile
{
    private const string Format = "infini-attention-state";
    private const string Version = "1";

    public static void Save(MemoryState state, string path)
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Write(
            path,
            new Dictionary<string, string> { ["format"] = Format, ["version"] = Version, ["position"] = state.Position.ToString(CultureInfo.InvariantCulture) },
            [.. StateSchema.Tensors(state, "")]);
    }

    /// <exception cref="InvalidDataException">The file is not a whole, unaltered state.</exception>
    public static MemoryState Load(string path, Device device)
    {
        using var stream = File.OpenRead(path);
        using var file = SafetensorsFile.Read(stream);
        if (file.Metadata.GetValueOrDefault("format") != Format || file.Metadata.GetValueOrDefault("version") != Version)
        {
            throw new InvalidDataException($"Not a saved state: its header does not name the format {Format} in version {Version}.");
        }

        if (!long.TryParse(file.Metadata.GetValueOrDefault("position"), NumberStyles.None, CultureInfo.InvariantCulture, out var position)
            || file.Entries.GetValueOrDefault("memory") is not { Shape: [var batch, var heads, var keyWidth, var valueWidth] } memory
            || file.Entries.Keys.Except(StateSchema.Names("")).Any())
        {
            throw new InvalidDataException("The file has a position or tensors that a state cannot have.");
        }

        var keys = file.Entries.GetValueOrDefault("keys");
        var earlier = file.Entries.GetValueOrDefault("earlier_keys");
        var shape = new StateShape(position, keys?.Shape.ElementAtOrDefault(2) ?? 0, (keys ?? earlier ?? memory).Type)
        {
            HasLocalKeys = file.Entries.ContainsKey("local_keys"),
            HasPassedKeys = file.Entries.ContainsKey("passed_keys"),
            EarlierLength = earlier?.Shape.ElementAtOrDefault(2) ?? 0,
            Batch = batch,
            Heads = heads,
            KeyWidth = keyWidth,
            ValueWidth = valueWidth,
        };
        return StateSchema.Read(file, "", shape, device);
    }
}
