using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>A stream as a safetensors file: the states of all layers, with the layers and their relevant options in the metadata.</summary>
internal static class StreamFile
{
    private const string Format = "infini-attention-stream";
    private const string Version = "1";

    public static void Save(StreamStates states, string path)
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Write(path, Metadata(states), Tensors(states));
    }

    public static void Save(StreamStates states, Stream stream)
    {
        using var scope = NewDisposeScope();
        SafetensorsFile.Write(stream, Metadata(states), Tensors(states));
    }

    /// <summary>Reads states for the layers of <paramref name="states"/>, which stay unchanged.</summary>
    /// <exception cref="InvalidDataException">What was read is not a whole, unaltered stream of these layers.</exception>
    public static MemoryState?[] Load(StreamStates states, Stream stream)
    {
        using var file = SafetensorsFile.Read(stream);
        if (file.Metadata.GetValueOrDefault("format") != Format)
        {
            throw new InvalidDataException($"Not a saved stream: its header does not name the format {Format}.");
        }

        if (file.Metadata.GetValueOrDefault("version") is var version && version != Version)
        {
            throw new InvalidDataException($"The stream is of version {version}; this library reads version {Version}.");
        }

        if (file.Metadata.GetValueOrDefault("layers") is var layers && layers != Describe(states))
        {
            throw new InvalidDataException($"The stream was saved from a model with other Infini-attention layers: {layers}; this model has {Describe(states)}.");
        }

        if (!long.TryParse(file.Metadata.GetValueOrDefault("position"), NumberStyles.None, CultureInfo.InvariantCulture, out var position))
        {
            throw new InvalidDataException($"The stream is at position '{file.Metadata.GetValueOrDefault("position")}', which is not a number of tokens.");
        }

        CheckNames(file, position == 0 ? 0 : states.Layers.Count);
        var restored = new MemoryState?[states.Layers.Count];
        try
        {
            for (var i = 0; i < restored.Length && position > 0; i++)
            {
                restored[i] = StateSchema.Read(file, $"{i}.", ShapeOf(states.Layers[i].Layer, file, position), states.Layers[i].Layer.Gate.device);
            }

            return restored;
        }
        catch
        {
            Array.ForEach(restored, state => state?.Dispose());
            throw;
        }
    }

    private static Dictionary<string, string> Metadata(StreamStates states) => new()
    {
        ["format"] = Format,
        ["version"] = Version,
        ["position"] = states.Position.ToString(CultureInfo.InvariantCulture),
        ["layers"] = Describe(states),
    };

    private static (string Name, Tensor Tensor)[] Tensors(StreamStates states) =>
        [.. states.Current.SelectMany((state, i) => state is null ? [] : StateSchema.Tensors(state, $"{i}."))];

    private static void CheckNames(SafetensorsFile file, int layers)
    {
        var known = Enumerable.Range(0, layers).SelectMany(i => StateSchema.Names($"{i}.")).ToHashSet();
        if (file.Entries.Keys.FirstOrDefault(name => !known.Contains(name)) is { } unknown)
        {
            throw new InvalidDataException($"The stream holds {unknown}, which these layers do not have.");
        }
    }

    private static StateShape ShapeOf(InfiniAttentionModule layer, SafetensorsFile file, long position)
    {
        var o = layer.Options;
        return new(position, position % o.SegmentLength, layer.Gate.dtype)
        {
            HasLocalKeys = o.HasOtherLocalKeys,
            HasPassedKeys = o.HasOtherPassedKeys,
            EarlierLength = o.LocalSegments > 1 && position >= o.SegmentLength ? o.SegmentLength : 0,
            Batch = file.Entries.GetValueOrDefault("0.memory") is { Shape: [var batch and > 0, ..] } ? batch : 0,
            Heads = o.KeyValueHeads,
            KeyWidth = o.KeyWidth,
            ValueWidth = o.ValueWidth,
        };
    }

    /// <summary>The options of every layer that the meaning of its state depends on.</summary>
    private static string Describe(StreamStates states) => string.Join("; ", states.Layers.Select(layer =>
    {
        var o = layer.Layer.Options;
        var rotary = o.Rotary is { } r ? string.Create(CultureInfo.InvariantCulture, $"{r.Theta:R} {r.Pairing} {o.RotaryWidth}{Scaling(r, o)}") : "none";
        return $"{layer.Name}: H {o.NumHeads}, G {o.KeyValueHeads}, K {o.KeyWidth}, V {o.ValueWidth}, N {o.SegmentLength}, " +
            $"{o.Update} {o.DeltaNormalizer} {o.EmptyMemory}, rotary {rotary}, {layer.Layer.Gate.dtype}{(o.QueryKeyNorm ? ", query and key norm" : "")}"
            + $"{(o.MemoryNorm ? ", memory norm" : "")}{(o.OwnMemoryProjections ? ", own memory projections" : "")}{(o.LocalSegments > 1 ? $", {o.LocalSegments} local segments" : "")}";
    }));

    /// <summary>The kind of a scaling of rotary frequencies, with a fingerprint of what it does.</summary>
    private static string Scaling(RotaryOptions rotary, InfiniAttentionOptions options)
    {
        if (rotary.Scaling is not { } scaling)
        {
            return "";
        }

        double[] numbers = [.. scaling.Frequencies(rotary.Theta, options.RotaryWidth, options.LocalSegments * options.SegmentLength), scaling.Amplitude];
        return $" {scaling.GetType().Name} {Convert.ToHexString(SHA256.HashData(MemoryMarshal.AsBytes<double>(numbers)))[..16]}";
    }
}
