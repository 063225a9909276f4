using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using InfiniAttention;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Passkey;

/// <summary>A <see cref="PasskeyModel"/> in a safetensors file, which describes the model it holds and how it was made.</summary>
public static class WeightsFile
{
    private const string Format = "LongContext passkey 1";
    private const long LargestHeader = 1 << 20;

    /// <summary>Writes the file; a reader sees the old one or the new one, never a part of it.</summary>
    public static void Save(string path, Decoder model, IReadOnlyDictionary<string, string>? notes = null) =>
        AtomicFile.Write(path, file => Write(file, model, notes));

    public static void Write(Stream file, Decoder model, IReadOnlyDictionary<string, string>? notes = null)
    {
        using var scope = NewDisposeScope();
        var header = new JsonObject { ["__metadata__"] = Describe(model, notes) };
        using var data = new MemoryStream();
        foreach (var (name, weight) in model.state_dict().OrderBy(entry => entry.Key, StringComparer.Ordinal))
        {
            var values = weight.detach().cpu().to(ScalarType.Float32).contiguous().data<float>().ToArray();
            var begin = data.Length;
            data.Write(MemoryMarshal.AsBytes(values.AsSpan()));
            header[name] = new JsonObject
            {
                ["dtype"] = "F32",
                ["shape"] = new JsonArray([.. weight.shape.Select(size => JsonValue.Create(size))]),
                ["data_offsets"] = new JsonArray(begin, data.Length),
            };
        }

        var json = JsonSerializer.SerializeToUtf8Bytes(header);
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        file.Write(length);
        file.Write(json);
        data.WriteTo(file);
    }

    /// <summary>The model in the file, and the notes it was saved with.</summary>
    public static (Decoder Model, IReadOnlyDictionary<string, string> Notes) Load(string path)
    {
        if (!File.Exists(path))
        {
            throw new InputException($"There is no weights file '{path}'.");
        }

        var (header, data) = Parse(File.ReadAllBytes(path), path);
        var model = Read(path, () => ReadModel(header).Create());
        try
        {
            Read(path, () => Fill(model, header, data, path));
        }
        catch (InputException)
        {
            model.Dispose();
            throw;
        }
        return (model, Notes(header));
    }

    /// <summary>Loads the weights of a file into an existing model.</summary>
    public static void LoadInto(Decoder model, byte[] file, string name)
    {
        var (header, data) = Parse(file, name);
        Read(name, () => Fill(model, header, data, name));
    }

    private static (JsonObject Header, ReadOnlyMemory<byte> Data) Parse(byte[] file, string path)
    {
        var length = file.Length < 8 ? -1 : BinaryPrimitives.ReadInt64LittleEndian(file);
        if (length is < 2 or > LargestHeader || length > file.Length - 8)
        {
            throw Foreign(path, "it is not a safetensors file");
        }

        var header = Read(path, () => JsonNode.Parse(file.AsSpan(8, (int)length))?.AsObject() ?? throw new JsonException("its header is empty"));
        return Read(path, () => Notes(header).GetValueOrDefault("format")) == Format
            ? (header, file.AsMemory(8 + (int)length))
            : throw Foreign(path, $"its metadata does not name the format '{Format}'");
    }

    private static Dictionary<string, string> Notes(JsonObject header) =>
        header["__metadata__"]?.AsObject().ToDictionary(entry => entry.Key, entry => entry.Value?.GetValue<string>() ?? "") ?? [];

    /// <summary>Runs code that reads a file of unknown origin, and throws an <see cref="InputException"/> if the file is malformed.</summary>
    private static T Read<T>(string path, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or FormatException or KeyNotFoundException
            or OverflowException or ArgumentException)
        {
            throw Foreign(path, error.Message);
        }
    }

    private static bool Fill(Decoder model, JsonObject header, ReadOnlyMemory<byte> data, string path)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        foreach (var (name, weight) in model.state_dict())
        {
            var entry = header[name] ?? throw Foreign(path, $"'{name}' is missing");
            var shape = entry["shape"]?.AsArray().Select(size => size?.GetValue<long>() ?? -1).ToArray() ?? [];
            if (entry["dtype"]?.GetValue<string>() != "F32" || !shape.SequenceEqual(weight.shape))
            {
                throw Foreign(path, $"'{name}' is not a float32 tensor of shape ({string.Join(", ", weight.shape)})");
            }

            var offsets = entry["data_offsets"]?.AsArray().Select(offset => offset?.GetValue<int>() ?? -1).ToArray();
            if (offsets is not [>= 0 and var begin, var end] || end > data.Length || end - begin != weight.numel() * sizeof(float))
            {
                throw Foreign(path, $"the data of '{name}' is incomplete");
            }

            weight.copy_(tensor(MemoryMarshal.Cast<byte, float>(data.Span[begin..end]).ToArray(), shape));
        }
        return true;
    }

    private static JsonObject Describe(Decoder model, IReadOnlyDictionary<string, string>? notes)
    {
        var metadata = new JsonObject
        {
            ["format"] = Format,
            ["vocabulary"] = Text(model.Config.Vocabulary),
            ["width"] = Text(model.Config.Width),
            ["heads"] = Text(model.Config.Heads),
            ["layers"] = Text(model.Config.Layers),
            ["segment_length"] = Text(model.Attention.SegmentLength),
            ["update"] = model.Attention.Update.ToString(),
        };
        if (MemoryVariant.Of(model.Attention) is var memory && memory != MemoryVariant.Paper)
        {
            metadata["memory_norm"] = memory.Norm.ToString();
            metadata["own_memory_projections"] = memory.OwnProjections.ToString();
            metadata["local_segments"] = Text(memory.LocalSegments);
        }

        foreach (var (name, note) in notes ?? new Dictionary<string, string>())
        {
            metadata[name] = note;
        }

        return metadata;
    }

    private static PasskeyModel ReadModel(JsonObject header)
    {
        var notes = Notes(header);
        var heads = Number(notes["heads"]);
        return new PasskeyModel
        {
            Vocabulary = Number(notes["vocabulary"]),
            Width = Number(notes["width"]),
            Heads = heads,
            SegmentLength = Number(notes["segment_length"]),
            Update = Enum.TryParse<MemoryUpdate>(notes["update"], out var update)
                ? update : throw new FormatException($"'{notes["update"]}' is not an update rule"),
            Memory = notes.TryGetValue("memory_norm", out var norm)
                ? new(bool.Parse(norm), bool.Parse(notes["own_memory_projections"]), Number(notes["local_segments"]))
                : MemoryVariant.Paper,
            InitialGates = [.. Enumerable.Range(0, (int)Number(notes["layers"])).Select(_ => new double[heads])],
        };
    }

    private static long Number(string text) => long.Parse(text, CultureInfo.InvariantCulture) is > 0 and < 1 << 20 and var number
        ? number : throw new FormatException($"{text} is not a size");

    private static string Text(long number) => number.ToString(CultureInfo.InvariantCulture);

    private static InputException Foreign(string path, string reason) => new($"'{path}' does not hold weights of this model: {reason}.");
}
