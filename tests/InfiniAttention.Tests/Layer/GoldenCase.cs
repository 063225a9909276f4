using System.Text.Json;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>One file of Fixtures; the README there explains its fields.</summary>
internal sealed class GoldenCase
{
    private readonly JsonElement root;

    private GoldenCase(JsonElement root) => this.root = root;

    public static IEnumerable<string> Names =>
        Directory.GetFiles(Folder, "*.json").Select(file => Path.GetFileNameWithoutExtension(file)!).Order(StringComparer.Ordinal);

    public InfiniAttentionOptions Options
    {
        get
        {
            JsonElement options = root.GetProperty("options");
            long Number(string name) => options.GetProperty(name).GetInt64();
            string Text(string name) => options.GetProperty(name).GetString()!;
            bool Flag(string name) => options.TryGetProperty(name, out JsonElement flag) && flag.GetBoolean();
            JsonElement theta = options.GetProperty("rope_theta");
            return new InfiniAttentionOptions
            {
                EmbedDim = Number("embed_dim"),
                NumHeads = Number("heads"),
                NumKeyValueHeads = Number("kv_heads"),
                HeadDim = Number("head_dim"),
                ValueHeadDim = Number("value_dim"),
                SegmentLength = Number("segment"),
                Bias = options.GetProperty("bias").GetBoolean(),
                MemoryNorm = Flag("memory_norm"),
                OwnMemoryProjections = Flag("own_memory_projections"),
                LocalSegments = options.TryGetProperty("local_segments", out JsonElement segments) ? segments.GetInt64() : 1,
                Update = Text("rule") switch
                {
                    "linear" => MemoryUpdate.Linear,
                    "delta" => MemoryUpdate.Delta,
                    string other => throw new InvalidDataException($"unknown rule {other}"),
                },
                EmptyMemory = Text("empty_memory") switch
                {
                    "local" => EmptyMemory.LocalOnly,
                    "gated" => EmptyMemory.Gated,
                    string other => throw new InvalidDataException($"unknown empty_memory {other}"),
                },
                Rotary = theta.ValueKind == JsonValueKind.Null ? null : new RotaryOptions(theta.GetDouble(), Text("rope_style") switch
                {
                    "half" => RotaryPairing.Halves,
                    "interleaved" => RotaryPairing.Interleaved,
                    string other => throw new InvalidDataException($"unknown rope_style {other}"),
                }),
            };
        }
    }

    public TokenInfo? Info
    {
        get
        {
            Tensor? padding = Optional("key_padding_mask")?.to_type(ScalarType.Bool);
            Tensor? starts = Optional("document_starts")?.to_type(ScalarType.Bool);
            Tensor? writes = Optional("write_weights");
            return padding is null && starts is null && writes is null ? null : new TokenInfo { KeyPaddingMask = padding, DocumentStarts = starts, WriteWeights = writes };
        }
    }

    private static string Folder => Path.Combine(AppContext.BaseDirectory, "Fixtures");

    public static GoldenCase Load(string name)
    {
        using var document = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Folder, name + ".json")));
        return new GoldenCase(document.RootElement.Clone());
    }

    public Tensor Tensor(string name) => Read(root.GetProperty(name));

    public Dictionary<string, Tensor> Tensors(string name) =>
        root.GetProperty(name).EnumerateObject().ToDictionary(p => p.Name, p => Read(p.Value));

    private Tensor? Optional(string name) =>
        root.GetProperty(name) is { ValueKind: not JsonValueKind.Null } value ? Read(value) : null;

    private static Tensor Read(JsonElement element)
    {
        long[] shape = [.. element.GetProperty("shape").EnumerateArray().Select(n => n.GetInt64())];
        double[] numbers = [.. element.GetProperty("data").EnumerateArray().Select(n => n.GetDouble())];
        return tensor(numbers).reshape(shape);
    }
}
