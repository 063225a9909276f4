using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>Writes Hugging Face folders.</summary>
internal static class TinyFolder
{
    public static void Write(string folder, string config, IReadOnlyDictionary<string, Tensor> weights, int shards = 1)
    {
        File.WriteAllText(Path.Combine(folder, "config.json"), config);
        if (shards == 1)
        {
            WriteSafetensors(Path.Combine(folder, "model.safetensors"), weights);
            return;
        }

        var places = new JsonObject();
        foreach (var (entries, i) in weights.Chunk((weights.Count + shards - 1) / shards).Select((entries, i) => (entries, i)))
        {
            var name = ShardName(i, shards);
            WriteSafetensors(Path.Combine(folder, name), entries.ToDictionary(entry => entry.Key, entry => entry.Value));
            foreach (var entry in entries)
            {
                places[entry.Key] = name;
            }
        }

        File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), new JsonObject { ["metadata"] = new JsonObject(), ["weight_map"] = places }.ToJsonString());
    }

    public static string ShardName(int i, int shards) => $"model-{i + 1:00000}-of-{shards:00000}.safetensors";

    public static void WriteSafetensors(string path, IReadOnlyDictionary<string, Tensor> weights)
    {
        var header = new JsonObject { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        using var data = new MemoryStream();
        foreach (var (name, weight) in weights)
        {
            var begin = data.Length;
            data.Write(weight.contiguous().bytes);
            header[name] = new JsonObject
            {
                ["dtype"] = weight.dtype switch { ScalarType.BFloat16 => "BF16", ScalarType.Float16 => "F16", ScalarType.Int8 => "I8", _ => "F32" },
                ["shape"] = new JsonArray([.. weight.shape.Select(size => JsonValue.Create(size))]),
                ["data_offsets"] = new JsonArray(begin, data.Length),
            };
        }

        var json = JsonSerializer.SerializeToUtf8Bytes(header);
        var length = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        File.WriteAllBytes(path, [.. length, .. json, .. data.ToArray()]);
    }

    /// <summary>A tokenizer of words.</summary>
    public static void WriteTokenizer(string folder, params (string Word, int Token)[] vocabulary) => WriteTokenizer(folder, null, vocabulary);

    /// <summary>A tokenizer of words that puts one of them before each text.</summary>
    public static void WriteTokenizer(string folder, string? first, (string Word, int Token)[] vocabulary)
    {
        var words = new JsonObject { ["[UNK]"] = 0 };
        foreach (var (word, token) in vocabulary)
        {
            words[word] = token;
        }

        var tokenizer = new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = new JsonArray(),
            ["normalizer"] = null,
            ["pre_tokenizer"] = new JsonObject { ["type"] = "Whitespace" },
            ["post_processor"] = first is null ? null : Before(first, vocabulary.Single(entry => entry.Word == first).Token),
            ["decoder"] = null,
            ["model"] = new JsonObject { ["type"] = "WordLevel", ["vocab"] = words, ["unk_token"] = "[UNK]" },
        };
        File.WriteAllText(Path.Combine(folder, "tokenizer.json"), tokenizer.ToJsonString());
    }

    private static JsonObject Before(string word, int token) => new()
    {
        ["type"] = "TemplateProcessing",
        ["single"] = new JsonArray(Special(word), Text("A")),
        ["pair"] = new JsonArray(Text("A"), Text("B")),
        ["special_tokens"] = new JsonObject { [word] = new JsonObject { ["id"] = word, ["ids"] = new JsonArray(token), ["tokens"] = new JsonArray(word) } },
    };

    private static JsonObject Special(string word) => new() { ["SpecialToken"] = new JsonObject { ["id"] = word, ["type_id"] = 0 } };

    private static JsonObject Text(string sequence) => new() { ["Sequence"] = new JsonObject { ["id"] = sequence, ["type_id"] = sequence == "A" ? 0 : 1 } };
}
