using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace InfiniAttention.Tests;

/// <summary>Reads names, shapes and numbers of a safetensors file without using the library.</summary>
internal sealed class SafeTensors
{
    private readonly byte[] bytes;
    private readonly int start;

    public SafeTensors(byte[] bytes)
    {
        this.bytes = bytes;
        int header = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        start = sizeof(ulong) + header;
        using var document = JsonDocument.Parse(bytes.AsMemory(sizeof(ulong), header));
        foreach (JsonProperty entry in document.RootElement.EnumerateObject())
        {
            if (entry.Name == "__metadata__")
            {
                Metadata = entry.Value.EnumerateObject().ToDictionary(m => m.Name, m => m.Value.GetString()!);
            }
            else
            {
                Entries[entry.Name] = entry.Value.Clone();
            }
        }
    }

    public Dictionary<string, string> Metadata { get; } = [];

    public Dictionary<string, JsonElement> Entries { get; } = [];

    public static SafeTensors Of(SegmentStreamer streamer)
    {
        using var stream = new MemoryStream();
        streamer.Save(stream);
        return new SafeTensors(stream.ToArray());
    }

    public long[] Shape(string name) => [.. Entries[name].GetProperty("shape").EnumerateArray().Select(n => n.GetInt64())];

    public double[] Numbers(string name)
    {
        int[] offsets = [.. Entries[name].GetProperty("data_offsets").EnumerateArray().Select(n => n.GetInt32())];
        ReadOnlySpan<byte> data = bytes.AsSpan(start + offsets[0], offsets[1] - offsets[0]);
        return Entries[name].GetProperty("dtype").GetString() switch
        {
            "F64" => MemoryMarshal.Cast<byte, double>(data).ToArray(),
            "F32" => [.. MemoryMarshal.Cast<byte, float>(data).ToArray().Select(f => (double)f)],
            "I64" => [.. MemoryMarshal.Cast<byte, long>(data).ToArray().Select(i => (double)i)],
            "BOOL" or "U8" => [.. data.ToArray().Select(b => (double)b)],
            var other => throw new InvalidDataException($"{name} has type {other}"),
        };
    }

    /// <summary>Requires the same tensors with the same shapes, and numbers that are equal to rounding.</summary>
    public void CompareTo(SafeTensors expected, double tolerance, Difference difference)
    {
        Assert.Equal(expected.Entries.Keys.Order(StringComparer.Ordinal), Entries.Keys.Order(StringComparer.Ordinal));
        foreach (string name in expected.Entries.Keys)
        {
            Assert.Equal(expected.Shape(name), Shape(name));
            difference.Add(
                TorchSharp.torch.tensor(expected.Numbers(name)), TorchSharp.torch.tensor(Numbers(name)), tolerance, $"saved {name}");
        }
    }
}
