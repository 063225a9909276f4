using System.Text.Json;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What a saved stream of given layers must hold at a position: a file with a valid checksum may still come from another program.</summary>
/// <remarks>B batch, G key/value heads, K key width, V value width, L tokens of the open segment.</remarks>
internal static class StreamLayout
{
    /// <summary>Throws unless every tensor that the layers need is there, of the right type and shape, inside the file's data, and no other.</summary>
    /// <exception cref="InvalidDataException">One is not so; it is named, with what was found and what is needed.</exception>
    public static void Check(IReadOnlyList<(string Name, InfiniAttentionModule Layer)> layers, JsonElement header, long position, long dataBytes)
    {
        var batch = TryRead(header, "0.memory", out _, out var memoryShape, out _) && memoryShape.Length == 4 ? memoryShape[0] : 0;
        var known = new HashSet<string> { "__metadata__" };
        for (var i = 0; i < layers.Count; i++)
        {
            var o = layers[i].Layer.Options;
            var type = layers[i].Layer.Gate.dtype;
            var stateType = MemoryState.TypeFor(type);
            var length = position % o.SegmentLength;
            Require($"{i}.memory", stateType, [batch, o.KeyValueHeads, o.KeyWidth, o.ValueWidth]);
            Require($"{i}.normalizer", stateType, [batch, o.KeyValueHeads, o.KeyWidth]);
            if (length == 0)
            {
                continue;
            }

            Require($"{i}.keys", type, [batch, 1, length, o.KeyValueHeads, o.KeyWidth]);
            Require($"{i}.local_keys", type, [batch, 1, length, o.KeyValueHeads, o.KeyWidth], isNeeded: o.Rotary is not null);
            Require($"{i}.values", type, [batch, 1, length, o.KeyValueHeads, o.ValueWidth]);
            Require($"{i}.padding", ScalarType.Bool, [batch, 1, length], isNeeded: false);
            Require($"{i}.documents", ScalarType.Int64, [batch, 1, length], isNeeded: false);
            Require($"{i}.weights", stateType, [batch, 1, length], isNeeded: false);
        }

        if (header.EnumerateObject().Select(entry => entry.Name).FirstOrDefault(name => !known.Contains(name)) is { } unknown)
        {
            throw new InvalidDataException($"The stream holds {unknown}, which these layers do not have at position {position}.");
        }

        void Require(string name, ScalarType type, long[] shape, bool isNeeded = true)
        {
            known.Add(name);
            if (!header.TryGetProperty(name, out _) && !isNeeded)
            {
                return;
            }

            var bytes = shape.Aggregate(StreamFile.SizeOf(type), (product, size) => product * size);
            if (batch < 1 || !TryRead(header, name, out var foundType, out var foundShape, out var offsets)
                || foundType != StreamFile.NameOf(type) || !foundShape.SequenceEqual(shape)
                || offsets is not [var start, var end] || start < 0 || end > dataBytes || end - start != bytes)
            {
                var found = header.TryGetProperty(name, out var entry) ? entry.GetRawText() : "nothing";
                throw new InvalidDataException(
                    $"The stream holds {found} as {name}; at position {position} it must be {StreamFile.NameOf(type)} of shape ({string.Join(", ", shape)}) inside the {dataBytes} bytes of data.");
            }
        }
    }

    private static bool TryRead(JsonElement header, string name, out string type, out long[] shape, out long[] offsets)
    {
        (type, shape, offsets) = ("", [], []);
        if (!header.TryGetProperty(name, out var entry) || entry.ValueKind != JsonValueKind.Object
            || !entry.TryGetProperty("dtype", out var dtype) || dtype.ValueKind != JsonValueKind.String)
        {
            return false;
        }

        type = dtype.GetString()!;
        return TryReadIntegers(entry, "shape", out shape) && TryReadIntegers(entry, "data_offsets", out offsets);
    }

    private static bool TryReadIntegers(JsonElement entry, string name, out long[] integers)
    {
        integers = [];
        if (!entry.TryGetProperty(name, out var array) || array.ValueKind != JsonValueKind.Array
            || array.EnumerateArray().Any(item => item.ValueKind != JsonValueKind.Number || !item.TryGetInt64(out _)))
        {
            return false;
        }

        integers = [.. array.EnumerateArray().Select(item => item.GetInt64())];
        return true;
    }
}
