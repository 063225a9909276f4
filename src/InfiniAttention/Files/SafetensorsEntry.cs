using System.Text.Json;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>A tensor in a safetensors file: its type, its shape, and the start and number of its bytes in the file's data.</summary>
internal sealed record SafetensorsEntry(ScalarType Type, long[] Shape, long Start, long Bytes)
{
    private static readonly (ScalarType Type, string Name, long Bytes)[] Types =
    [
        (ScalarType.Float32, "F32", 4), (ScalarType.Float64, "F64", 8), (ScalarType.Float16, "F16", 2), (ScalarType.BFloat16, "BF16", 2),
        (ScalarType.Bool, "BOOL", 1), (ScalarType.Int64, "I64", 8),
    ];

    public static string NameOf(ScalarType type) => Types.Single(entry => entry.Type == type).Name;

    /// <summary>Reads an entry of the header.</summary>
    /// <exception cref="InvalidDataException">The entry is not a tensor inside <paramref name="dataBytes"/> bytes of data.</exception>
    public static SafetensorsEntry Parse(string name, JsonElement entry, long dataBytes)
    {
        try
        {
            var type = entry.GetProperty("dtype").GetString();
            var known = Types.SingleOrDefault(candidate => candidate.Name == type);
            var shape = Integers(entry.GetProperty("shape"));
            var offsets = Integers(entry.GetProperty("data_offsets"));
            var bytes = shape.All(size => size >= 0) ? shape.Aggregate(known.Bytes, (product, size) => checked(product * size)) : -1;
            if (known.Name is not null && offsets is [>= 0, var end] && end <= dataBytes && end - offsets[0] == bytes)
            {
                return new(known.Type, shape, offsets[0], bytes);
            }
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or FormatException or OverflowException)
        {
            throw Unreadable(e);
        }

        throw Unreadable(null);

        InvalidDataException Unreadable(Exception? cause) =>
            new($"The file holds {entry.GetRawText()} as {name}, which is not a tensor inside the {dataBytes} bytes of data.", cause);
    }

    private static long[] Integers(JsonElement array) => [.. array.EnumerateArray().Select(item => item.GetInt64())];
}
