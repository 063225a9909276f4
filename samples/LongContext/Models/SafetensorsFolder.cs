using System.Buffers.Binary;
using System.Text.Json;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>A tensor in a file: where its bytes are, and what they are.</summary>
internal sealed record StoredTensor(string File, string Type, long[] Shape, long Start, long Bytes);

/// <summary>The tensors of a Hugging Face folder: <c>model.safetensors</c>, or the shards that <c>model.safetensors.index.json</c> names. Only headers are kept in memory.</summary>
internal sealed class SafetensorsFolder
{
    private const string SingleFile = "model.safetensors", IndexFile = "model.safetensors.index.json";
    private const long LargestHeader = 100_000_000;

    private static readonly Dictionary<string, (ScalarType Type, long Bytes)> Types = new()
    {
        ["F32"] = (ScalarType.Float32, 4),
        ["F64"] = (ScalarType.Float64, 8),
        ["F16"] = (ScalarType.Float16, 2),
        ["BF16"] = (ScalarType.BFloat16, 2),
    };

    private readonly string folder;
    private readonly Dictionary<string, StoredTensor> tensors = [];

    public SafetensorsFolder(string folder)
    {
        this.folder = folder;
        if (File.Exists(Path.Combine(folder, IndexFile)))
        {
            ReadShards();
        }
        else if (File.Exists(Path.Combine(folder, SingleFile)))
        {
            ReadHeader(SingleFile);
        }
        else
        {
            throw new InputException($"'{folder}' has neither {SingleFile} nor {IndexFile}.");
        }
    }

    public IReadOnlyDictionary<string, StoredTensor> Tensors => tensors;

    /// <summary>A tensor in the type it is stored in, on the CPU.</summary>
    public Tensor Read(string name)
    {
        var stored = tensors[name];
        if (!Types.TryGetValue(stored.Type, out var type))
        {
            throw new InputException($"{stored.File} holds '{name}' as {stored.Type}; supported are {string.Join(", ", Types.Keys)}.");
        }

        var read = empty(stored.Shape, type.Type, CPU);
        try
        {
            using var file = File.OpenRead(Path.Combine(folder, stored.File));
            file.Position = stored.Start;
            Fill(read, file);
            return read;
        }
        catch (EndOfStreamException)
        {
            read.Dispose();
            throw new InputException($"{stored.File} is truncated: '{name}' is not whole.");
        }
    }

    /// <summary>Fills a tensor with the next bytes of a file.</summary>
    public static void Fill(Tensor tensor, Stream file) => TensorPieces.Each(tensor, piece => file.ReadExactly(piece.bytes));

    private void ReadShards()
    {
        var places = Json(IndexFile, File.ReadAllBytes(Path.Combine(folder, IndexFile)), root => root.GetProperty("weight_map").EnumerateObject()
            .ToDictionary(entry => entry.Name, entry => entry.Value.GetString() ?? ""));
        foreach (var shard in places.Values.Distinct().Order(StringComparer.Ordinal))
        {
            if (Path.GetFileName(shard) != shard || !File.Exists(Path.Combine(folder, shard)))
            {
                throw new InputException($"The shard '{shard}', which {IndexFile} names, is not in the folder.");
            }

            ReadHeader(shard);
        }

        if (places.FirstOrDefault(place => tensors.GetValueOrDefault(place.Key)?.File != place.Value) is { Key: not null } missing)
        {
            throw new InputException($"'{missing.Key}' is not in {missing.Value}, where {IndexFile} says it is.");
        }

        if (tensors.Keys.FirstOrDefault(name => !places.ContainsKey(name)) is { } unnamed)
        {
            throw new InputException($"{tensors[unnamed].File} holds '{unnamed}', which {IndexFile} does not name.");
        }
    }

    private void ReadHeader(string name)
    {
        using var file = File.OpenRead(Path.Combine(folder, name));
        Span<byte> prefix = stackalloc byte[8];
        var length = file.ReadAtLeast(prefix, 8, throwOnEndOfStream: false) == 8 ? BinaryPrimitives.ReadInt64LittleEndian(prefix) : -1;
        if (length is < 2 or > LargestHeader || length > file.Length - 8)
        {
            throw new InputException($"{name} is truncated or not a safetensors file: its header would have {length} bytes of {file.Length}.");
        }

        var header = new byte[length];
        file.ReadExactly(header);
        var dataStart = 8 + length;
        foreach (var stored in Json(name, header, root => root.EnumerateObject().Where(entry => entry.Name != "__metadata__").Select(Stored).ToArray()))
        {
            if (stored.Tensor.Start < dataStart || stored.Tensor.Start + stored.Tensor.Bytes > file.Length)
            {
                throw new InputException($"{name} is truncated: '{stored.Name}' ends at byte {stored.Tensor.Start + stored.Tensor.Bytes} of {file.Length}.");
            }

            if (Types.TryGetValue(stored.Tensor.Type, out var type) && stored.Tensor.Shape.Aggregate(type.Bytes, (bytes, size) => bytes * size) != stored.Tensor.Bytes)
            {
                throw new InputException($"{name} holds '{stored.Name}' in {stored.Tensor.Bytes} bytes, which are not those of its shape ({string.Join(", ", stored.Tensor.Shape)}).");
            }

            if (!tensors.TryAdd(stored.Name, stored.Tensor))
            {
                throw new InputException($"{name} holds '{stored.Name}', which {tensors[stored.Name].File} holds too.");
            }
        }

        (string Name, StoredTensor Tensor) Stored(JsonProperty entry)
        {
            long[] shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())];
            var offsets = entry.Value.GetProperty("data_offsets");
            var (begin, end) = (offsets[0].GetInt64(), offsets[1].GetInt64());
            return (entry.Name, new(name, entry.Value.GetProperty("dtype").GetString() ?? "", shape, dataStart + begin, end - begin));
        }
    }

    private static T Json<T>(string file, byte[] json, Func<JsonElement, T> read)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            return read(document.RootElement);
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException or KeyNotFoundException or FormatException or IndexOutOfRangeException or ArgumentException)
        {
            throw new InputException($"{file} cannot be read: {error.Message}");
        }
    }
}
