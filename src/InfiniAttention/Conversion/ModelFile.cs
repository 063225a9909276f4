using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Reads what TorchSharp's <c>Module.save</c> writes: the number of entries, then of each its name, type, rank, sizes and bytes. <c>Module.load</c> would write
/// into a model entry by entry, so that an entry that does not fit would be found after others are overwritten, and it does not convert types.
/// </summary>
internal static class ModelFile
{
    private const int PieceBytes = 1 << 26;

    /// <summary>The entries, on the CPU, in the caller's dispose scope.</summary>
    /// <exception cref="InvalidDataException">The file is damaged or of another kind.</exception>
    public static Dictionary<string, Tensor> Read(string path)
    {
        using var stream = File.OpenRead(path);
        using var reader = new BinaryReader(stream);
        var entries = new Dictionary<string, Tensor>();
        try
        {
            for (var left = reader.Read7BitEncodedInt64(); left > 0; left--)
            {
                var name = reader.ReadString();
                if (!entries.TryAdd(name, ReadTensor(reader, stream, name)))
                {
                    throw new InvalidDataException($"it holds '{name}' twice");
                }
            }

            return stream.Position == stream.Length ? entries : throw new InvalidDataException($"{stream.Length - stream.Position} bytes follow its last entry");
        }
        catch (Exception e) when (e is IOException or FormatException or InvalidDataException)
        {
            throw new InvalidDataException($"'{path}' is damaged or was not written by Module.save, and nothing was loaded: {e.Message}.", e);
        }
    }

    private static Tensor ReadTensor(BinaryReader reader, Stream stream, string name)
    {
        var type = (ScalarType)reader.Read7BitEncodedInt();
        var rank = reader.Read7BitEncodedInt();
        if (!Enum.IsDefined(type) || rank is < 0 or > 64)
        {
            throw new InvalidDataException($"'{name}' has the type {type} and {rank} dimensions");
        }

        var sizes = new long[rank];
        using var none = empty([0], type, CPU);
        var bytes = (Int128)none.ElementSize;
        for (var i = 0; i < rank; i++)
        {
            sizes[i] = reader.Read7BitEncodedInt64();
            bytes = sizes[i] < 0 || bytes > long.MaxValue ? Int128.MaxValue : bytes * sizes[i];
        }

        if (bytes > stream.Length - stream.Position)
        {
            throw new InvalidDataException($"'{name}' of shape ({string.Join(", ", sizes)}) does not fit into the {stream.Length - stream.Position} bytes that are left");
        }

        var tensor = empty(sizes, type, CPU);
        using var numbers = tensor.view(-1);
        var length = PieceBytes / none.ElementSize;
        for (long start = 0; start < numbers.NumberOfElements; start += length)
        {
            using var piece = numbers.narrow(0, start, Math.Min(length, numbers.NumberOfElements - start)); // no span holds more than 2 GiB, and a tensor may
            stream.ReadExactly(piece.bytes);
        }

        return tensor;
    }
}
