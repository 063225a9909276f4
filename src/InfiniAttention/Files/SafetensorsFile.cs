using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// A safetensors file that was read: eight bytes of header length, a JSON header, the tensors' bytes. The header's metadata carries a
/// SHA-256 over the whole file, in which the checksum's own digits count as zeros.
/// </summary>
internal sealed class SafetensorsFile : IDisposable
{
    private const int LengthBytes = sizeof(long);
    private const int MaximumHeader = 100_000_000;

    private static readonly string ChecksumPlaceholder = new('0', 2 * SHA256.HashSizeInBytes);

    private readonly FileBytes file;
    private readonly JsonDocument header;
    private readonly int dataStart;
    private readonly Dictionary<string, SafetensorsEntry> entries = [];

    private SafetensorsFile(FileBytes file)
    {
        this.file = file;
        header = ReadHeader(file, out dataStart);
        try
        {
            Metadata = ReadMetadata(header.RootElement);
            CheckChecksum();
            foreach (var property in header.RootElement.EnumerateObject().Where(property => property.Name != "__metadata__"))
            {
                entries[property.Name] = SafetensorsEntry.Parse(property.Name, property.Value, file.Length - dataStart);
            }

            CheckPlaces();
        }
        catch
        {
            header.Dispose();
            throw;
        }
    }

    /// <summary>The header's metadata, without the checksum.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The tensors, by name.</summary>
    public IReadOnlyDictionary<string, SafetensorsEntry> Entries => entries;

    /// <summary>Reads to the end of the stream.</summary>
    /// <exception cref="InvalidDataException">
    /// What was read is not a whole, unaltered file that <see cref="Write(Stream, IReadOnlyDictionary{string, string},
    /// IReadOnlyList{ValueTuple{string, Tensor}})"/> wrote.
    /// </exception>
    public static SafetensorsFile Read(Stream stream) => new(FileBytes.Read(stream));

    /// <summary>A tensor's numbers, on the CPU.</summary>
    /// <exception cref="InvalidDataException">A bool is neither 0 nor 1.</exception>
    public Tensor Tensor(string name)
    {
        var entry = entries[name];
        var tensor = empty(entry.Shape, entry.Type, CPU);
        var start = dataStart + entry.Start;
        foreach (var piece in Pieces(tensor))
        {
            var size = piece.NumberOfElements * piece.ElementSize;
            var bytes = file.Copy(start, (int)size);
            if (entry.Type == ScalarType.Bool && bytes.AsSpan().ContainsAnyExceptInRange((byte)0, (byte)1))
            {
                throw new InvalidDataException($"The file holds numbers other than 0 and 1 in {name}, which is of type bool.");
            }

            piece.bytes = bytes;
            start += size;
        }

        return tensor;
    }

    public void Dispose() => header.Dispose();

    /// <summary>Writes a temporary file next to the path and moves it there when it is complete: a reader sees the old file or the new one.</summary>
    public static void Write(string path, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<(string Name, Tensor Tensor)> tensors)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var temporary = $"{path}.{Guid.NewGuid():N}.part";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write))
            {
                Write(stream, metadata, tensors);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, overwrite: true);
        }
        finally
        {
            File.Delete(temporary);
        }
    }

    /// <summary>Writes metadata and tensors.</summary>
    public static void Write(Stream stream, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<(string Name, Tensor Tensor)> tensors)
    {
        using var scope = NewDisposeScope();
        var contiguous = tensors.Select(entry => (entry.Name, Tensor: entry.Tensor.detach().cpu().contiguous())).ToArray();
        var header = Encoding.UTF8.GetBytes(Header(metadata, contiguous));
        Array.Resize(ref header, (header.Length + 7) / 8 * 8); // the format aligns the data by padding the header with spaces
        header.AsSpan().Replace((byte)0, (byte)' ');
        var length = new byte[LengthBytes];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);

        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(length);
        hash.AppendData(header);
        foreach (var piece in contiguous.SelectMany(entry => Pieces(entry.Tensor)))
        {
            hash.AppendData(piece.bytes);
        }

        var checksum = Encoding.ASCII.GetBytes(Convert.ToHexString(hash.GetHashAndReset()));
        checksum.CopyTo(header, header.AsSpan().IndexOf(Encoding.ASCII.GetBytes(ChecksumPlaceholder)));
        stream.Write(length);
        stream.Write(header);
        foreach (var piece in contiguous.SelectMany(entry => Pieces(entry.Tensor)))
        {
            stream.Write(piece.bytes);
        }
    }

    private static string Header(IReadOnlyDictionary<string, string> metadata, (string Name, Tensor Tensor)[] tensors)
    {
        var header = new Dictionary<string, object> { ["__metadata__"] = new Dictionary<string, string>(metadata) { ["checksum"] = ChecksumPlaceholder } };
        var offset = 0L;
        foreach (var (name, tensor) in tensors)
        {
            var size = tensor.NumberOfElements * tensor.ElementSize;
            header[name] = new { dtype = SafetensorsEntry.NameOf(tensor.dtype), shape = Describe.Sizes(tensor), data_offsets = new[] { offset, offset + size } };
            offset += size;
        }

        return JsonSerializer.Serialize(header);
    }

    private static JsonDocument ReadHeader(FileBytes file, out int dataStart)
    {
        if (file.Length < LengthBytes)
        {
            throw new InvalidDataException($"The file is truncated: {file.Length} bytes.");
        }

        var length = BinaryPrimitives.ReadInt64LittleEndian(file.Copy(0, LengthBytes));
        if (length < 2 || length > MaximumHeader || length > file.Length - LengthBytes)
        {
            throw new InvalidDataException($"The file is truncated or not a safetensors file: its header claims {length} bytes of {file.Length}.");
        }

        dataStart = LengthBytes + (int)length;
        try
        {
            return JsonDocument.Parse(file.Copy(LengthBytes, (int)length));
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"The file is altered or not a safetensors file: its header is not JSON ({e.Message}).", e);
        }
    }

    private static Dictionary<string, string> ReadMetadata(JsonElement header)
    {
        try
        {
            return header.GetProperty("__metadata__").EnumerateObject()
                .ToDictionary(entry => entry.Name, entry => entry.Value.GetString() ?? throw new InvalidOperationException($"{entry.Name} is null"));
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or ArgumentException)
        {
            throw new InvalidDataException("The file is altered or of another kind: its header has no metadata of strings.", e);
        }
    }

    /// <summary>Throws unless the tensors follow each other without gaps to the end of the file.</summary>
    private void CheckPlaces()
    {
        var end = 0L;
        foreach (var (name, entry) in entries.OrderBy(entry => (entry.Value.Start, entry.Value.Bytes)))
        {
            if (entry.Start != end)
            {
                throw new InvalidDataException($"The file holds {name} at byte {entry.Start} of its data; it must begin at byte {end}, where the tensor before it ends.");
            }

            end += entry.Bytes;
        }

        if (end != file.Length - dataStart)
        {
            throw new InvalidDataException($"The file holds {file.Length - dataStart} bytes of data, but its tensors take {end}.");
        }
    }

    /// <summary>Throws unless the checksum matches; its own digits count as zeros.</summary>
    private void CheckChecksum()
    {
        var checksum = Metadata.GetValueOrDefault("checksum", "");
        var beginning = file.Copy(0, dataStart);
        var place = checksum.Length == ChecksumPlaceholder.Length ? beginning.AsSpan().IndexOf(Encoding.ASCII.GetBytes(checksum)) : -1;
        if (place >= 0)
        {
            Encoding.ASCII.GetBytes(ChecksumPlaceholder).CopyTo(beginning, place);
        }

        if (place < 0 || checksum != file.ChecksumAfter(beginning))
        {
            throw new InvalidDataException("The file is altered or truncated: its checksum does not match.");
        }
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
}
