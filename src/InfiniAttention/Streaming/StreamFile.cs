using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// A stream as a safetensors file: eight bytes of header length, a JSON header, the tensors' bytes. The header's metadata
/// carries the format's version, the layers with the options that matter, and a SHA-256 over the whole file, in which the
/// place of the checksum itself counts as zeros.
/// </summary>
internal static class StreamFile
{
    private const string Format = "infini-attention-stream";
    private const int Version = 1;
    private const int LengthBytes = sizeof(long);
    private const int MaximumHeader = 100_000_000;

    private static readonly string ChecksumPlaceholder = new('0', 2 * SHA256.HashSizeInBytes);

    private static readonly (ScalarType Type, string Name)[] TypeNames =
    [
        (ScalarType.Float32, "F32"), (ScalarType.Float64, "F64"), (ScalarType.Float16, "F16"), (ScalarType.BFloat16, "BF16"),
        (ScalarType.Bool, "BOOL"), (ScalarType.Int64, "I64"),
    ];

    /// <summary>Writes a file next to the path and moves it there when it is whole.</summary>
    public static void Save(LayerStates states, string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var temporary = $"{path}.{Guid.NewGuid():N}.part";
        try
        {
            using (var file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write))
            {
                Save(states, file);
                file.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, overwrite: true);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    public static void Save(LayerStates states, Stream stream)
    {
        using var scope = NewDisposeScope();
        var tensors = states.Current.SelectMany((state, i) => state is null ? [] : Named(state, i))
            .Select(entry => (entry.Name, Tensor: entry.Tensor.detach().cpu().contiguous())).ToArray();
        var header = Encoding.UTF8.GetBytes(Header(states, tensors));
        Array.Resize(ref header, (header.Length + 7) / 8 * 8); // the format wants the data aligned, by spaces
        header.AsSpan().Replace((byte)0, (byte)' ');
        var length = new byte[LengthBytes];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);

        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(length);
        hash.AppendData(header);
        foreach (var piece in tensors.SelectMany(entry => Pieces(entry.Tensor)))
        {
            hash.AppendData(piece.bytes);
        }

        var checksum = Encoding.ASCII.GetBytes(Convert.ToHexString(hash.GetHashAndReset()));
        checksum.CopyTo(header, header.AsSpan().IndexOf(Encoding.ASCII.GetBytes(ChecksumPlaceholder)));
        stream.Write(length);
        stream.Write(header);
        foreach (var piece in tensors.SelectMany(entry => Pieces(entry.Tensor)))
        {
            stream.Write(piece.bytes);
        }
    }

    /// <summary>Reads states for the layers of <paramref name="states"/>, which are left as they are.</summary>
    /// <exception cref="InvalidDataException">What was read is no whole, unaltered stream of these layers.</exception>
    public static MemoryState?[] Load(LayerStates states, Stream stream)
    {
        var file = FileBytes.Read(stream);
        using var header = ReadHeader(file, out var dataStart);
        var metadata = CheckMetadata(header.RootElement, file, dataStart);
        var layers = Text(metadata, "layers");
        if (layers != Describe(states))
        {
            throw new InvalidDataException($"The stream was saved from a model with other Infini-attention layers: {layers}; this model has {Describe(states)}.");
        }

        if (!long.TryParse(Text(metadata, "position"), NumberStyles.None, CultureInfo.InvariantCulture, out var position))
        {
            throw new InvalidDataException($"The stream stands at position '{Text(metadata, "position")}', which is no number of tokens.");
        }

        if (position == 0)
        {
            return new MemoryState?[states.Layers.Count];
        }

        StreamLayout.Check(states.Layers, header.RootElement, position, file.Length - dataStart);
        return ReadStates(states, entry => ReadTensor(entry, file, dataStart), header.RootElement, position);
    }

    public static string NameOf(ScalarType type) => TypeNames.Single(entry => entry.Type == type).Name;

    public static long SizeOf(ScalarType type) => type switch
    {
        ScalarType.Bool => sizeof(bool),
        ScalarType.Float16 or ScalarType.BFloat16 => 2,
        ScalarType.Float32 => sizeof(float),
        _ => sizeof(double),
    };

    private static IEnumerable<(string Name, Tensor Tensor)> Named(MemoryState state, int layer)
    {
        yield return ($"{layer}.memory", state.Memory);
        yield return ($"{layer}.normalizer", state.Normalizer);
        if (state.Open is { } open)
        {
            yield return ($"{layer}.keys", open.Tokens.Keys);
            if (open.HasRotatedKeys)
            {
                yield return ($"{layer}.local_keys", open.Tokens.RotatedKeys!);
            }

            yield return ($"{layer}.values", open.Tokens.Values);
            foreach (var (name, tensor) in new[] { ("padding", open.Marks.Padding), ("documents", open.Marks.Documents), ("weights", open.Marks.Weights) })
            {
                if (tensor is not null)
                {
                    yield return ($"{layer}.{name}", tensor);
                }
            }
        }
    }

    private static string Header(LayerStates states, (string Name, Tensor Tensor)[] tensors)
    {
        var header = new Dictionary<string, object>
        {
            ["__metadata__"] = new Dictionary<string, string>
            {
                ["format"] = Format,
                ["version"] = Version.ToString(),
                ["checksum"] = ChecksumPlaceholder,
                ["position"] = states.Position.ToString(),
                ["layers"] = Describe(states),
            },
        };
        var offset = 0L;
        foreach (var (name, tensor) in tensors)
        {
            var size = tensor.NumberOfElements * tensor.ElementSize;
            header[name] = new { dtype = NameOf(tensor.dtype), shape = tensor.shape, data_offsets = new[] { offset, offset + size } };
            offset += size;
        }

        return JsonSerializer.Serialize(header);
    }

    /// <summary>The options that a state's meaning depends on, of every layer.</summary>
    private static string Describe(LayerStates states) => string.Join("; ", states.Layers.Select(layer =>
    {
        var o = layer.Layer.Options;
        var rotary = o.Rotary is { } r ? string.Create(CultureInfo.InvariantCulture, $"{r.Theta:R} {r.Pairing} {o.RotaryWidth}") : "none";
        return $"{layer.Name}: H {o.NumHeads}, G {o.KeyValueHeads}, K {o.KeyWidth}, V {o.ValueWidth}, N {o.SegmentLength}, " +
            $"{o.Update} {o.DeltaNormalizer} {o.EmptyMemory}, rotary {rotary}, {layer.Layer.Gate.dtype}";
    }));

    private static JsonDocument ReadHeader(FileBytes file, out int dataStart)
    {
        if (file.Length < LengthBytes)
        {
            throw new InvalidDataException($"The stream is truncated: {file.Length} bytes.");
        }

        var length = BinaryPrimitives.ReadInt64LittleEndian(file.Copy(0, LengthBytes));
        if (length < 2 || length > MaximumHeader || length > file.Length - LengthBytes)
        {
            throw new InvalidDataException($"The stream is truncated or no safetensors file: its header claims {length} bytes of {file.Length}.");
        }

        dataStart = LengthBytes + (int)length;
        try
        {
            return JsonDocument.Parse(file.Copy(LengthBytes, (int)length));
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"The stream is altered or no safetensors file: its header is not JSON ({e.Message}).", e);
        }
    }

    private static JsonElement CheckMetadata(JsonElement header, FileBytes file, int dataStart)
    {
        if (header.ValueKind != JsonValueKind.Object || !header.TryGetProperty("__metadata__", out var metadata)
            || metadata.ValueKind != JsonValueKind.Object || Text(metadata, "format") != Format)
        {
            throw new InvalidDataException($"This is no saved stream: its header does not name the format {Format}.");
        }

        if (Text(metadata, "version") != Version.ToString())
        {
            throw new InvalidDataException($"The stream is of version {Text(metadata, "version")}; this library reads version {Version}.");
        }

        // The checksum counts as zeros, at the place where the header holds it.
        var checksum = Text(metadata, "checksum");
        var beginning = file.Copy(0, dataStart);
        var place = checksum.Length == ChecksumPlaceholder.Length ? beginning.AsSpan().IndexOf(Encoding.ASCII.GetBytes(checksum)) : -1;
        if (place >= 0)
        {
            Encoding.ASCII.GetBytes(ChecksumPlaceholder).CopyTo(beginning, place);
        }

        if (place < 0 || checksum != file.ChecksumAfter(beginning))
        {
            throw new InvalidDataException("The stream is altered or truncated: its checksum does not match.");
        }

        return metadata;
    }

    private static MemoryState?[] ReadStates(LayerStates states, Func<JsonElement, Tensor> read, JsonElement header, long position)
    {
        using var scope = NewDisposeScope();
        var restored = new MemoryState?[states.Layers.Count];
        for (var i = 0; i < restored.Length; i++)
        {
            var device = states.Layers[i].Layer.Gate.device;
            var keys = Read($"{i}.keys");
            var localKeys = Read($"{i}.local_keys");
            var open = keys is null ? null : new OpenSegment(
                new(keys, localKeys, Read($"{i}.values")!),
                keys.size(2),
                new(Read($"{i}.padding"), Read($"{i}.documents"), Read($"{i}.weights")));
            restored[i] = new(new MemoryMatrix(Read($"{i}.memory")!, Read($"{i}.normalizer")!), open, position);

            Tensor? Read(string name) => header.TryGetProperty(name, out var entry) ? read(entry).to(device) : null;
        }

        return restored;
    }

    private static Tensor ReadTensor(JsonElement entry, FileBytes file, int dataStart)
    {
        var shape = entry.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64()).ToArray();
        var type = TypeNames.Single(candidate => candidate.Name == entry.GetProperty("dtype").GetString()).Type;
        var tensor = empty(shape, type, CPU);
        var start = dataStart + entry.GetProperty("data_offsets")[0].GetInt64();
        foreach (var piece in Pieces(tensor))
        {
            var size = piece.NumberOfElements * piece.ElementSize;
            piece.bytes = file.Copy(start, (int)size);
            start += size;
        }

        return tensor;
    }

    /// <summary>The numbers of a contiguous tensor, piece by piece: no span holds more than 2 GiB, and a tensor may.</summary>
    private static IEnumerable<Tensor> Pieces(Tensor tensor)
    {
        using var numbers = tensor.view(-1);
        var length = FileBytes.ChunkBytes / tensor.ElementSize;
        for (long start = 0; start < numbers.NumberOfElements; start += length)
        {
            using var piece = numbers.narrow(0, start, Math.Min(length, numbers.NumberOfElements - start));
            yield return piece;
        }
    }

    private static string Text(JsonElement metadata, string name)
    {
        try
        {
            return metadata.TryGetProperty(name, out var value) && value.ValueKind == JsonValueKind.String ? value.GetString()! : "";
        }
        catch (InvalidOperationException e)
        {
            throw new InvalidDataException($"The stream is altered: its header's {name} is no text.", e);
        }
    }
}
