using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Json.Nodes;
using InfiniAttention;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>
/// Saves a converted decoder as a Hugging Face folder: the source's configuration and tokenizer, the weights under the family's names with the gates beside them, and a file
/// that says how attention was converted.
/// </summary>
internal sealed class ConvertedFolder : FamilyWeights
{
    private const string OptionsFile = "infini_attention.json", WeightsFile = "model.safetensors";

    private readonly List<(string Name, Func<Tensor> Tensor, long[] Shape)> entries = [];

    private readonly bool hasMemory;

    private ConvertedFolder(Decoder decoder, bool hasMemory)
        : base(decoder) => this.hasMemory = hasMemory;

    /// <summary>How the attention of a folder was converted; null if it was not.</summary>
    public static ConversionOptions? Options(string folder)
    {
        var path = Path.Combine(folder, OptionsFile);
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize<ConversionOptions>(File.ReadAllText(path)) : null;
        }
        catch (JsonException error)
        {
            throw new InputException($"{OptionsFile} cannot be read: {error.Message}");
        }
    }

    /// <summary>Writes the folder; each file is written whole or not at all, the weights last.</summary>
    /// <param name="model">The decoder.</param>
    /// <param name="options">How its attention was converted; null for a plain model.</param>
    /// <param name="source">The folder that it came from.</param>
    /// <param name="target">The folder to write.</param>
    public static void Save(Decoder model, ConversionOptions? options, string source, string target)
    {
        Directory.CreateDirectory(target);
        if (Path.GetFullPath(source) != Path.GetFullPath(target))
        {
            foreach (var file in new DirectoryInfo(source).GetFiles().Where(IsCopied))
            {
                using var from = file.OpenRead();
                AtomicFile.Write(Path.Combine(target, file.Name), from.CopyTo); // not CopyTo of the file, which also copies that it may be read-only
            }
        }

        if (model.Config.Family == Llama2cFile.Family)
        {
            AtomicFile.Write(Path.Combine(target, HuggingFaceConfig.FileName), LlamaConfig(model.Config));
        }

        if (options is null)
        {
            File.Delete(Path.Combine(target, OptionsFile));
        }
        else
        {
            AtomicFile.Write(Path.Combine(target, OptionsFile), JsonSerializer.Serialize(options with { SegmentLength = model.Attention.SegmentLength }));
        }

        var folder = new ConvertedFolder(model, hasMemory: options is not null);
        using var noGrad = no_grad();
        folder.Visit("transformer.");
        AtomicFile.Write(Path.Combine(target, WeightsFile), folder.Write);
    }

    protected override void Weight(string name, Tensor weight, bool isTransposed = false) =>
        entries.Add((name, () => (isTransposed ? weight.t() : weight).detach().cpu().to(float32).contiguous(), isTransposed ? [.. weight.shape.Reverse()] : weight.shape));

    protected override void Halves(string name, Tensor first, Tensor second) =>
        entries.Add((name, () => cat([first, second], 0).detach().cpu().to(float32), [2 * first.size(0), first.size(1)]));

    protected override void Attention(string prefix, InfiniAttentionModule attention)
    {
        using var scope = NewDisposeScope();
        foreach (var (name, shape) in Block(attention, prefix).Select(entry => (entry.Key, entry.Value.shape)))
        {
            entries.Add((name, () => Block(attention, prefix)[name].cpu().to(float32).contiguous(), shape));
        }

        foreach (var (name, parameter) in attention.state_dict().Where(entry => hasMemory && DecoderLayer.IsOfMemory(entry.Key)))
        {
            Weight($"{prefix}.{name}", parameter);
        }
    }

    /// <summary>The configuration and what the tokenizer needs.</summary>
    private static bool IsCopied(FileInfo file) => file.Name == Llama2cTokenizer.FileName
        || (file.Extension is ".json" or ".txt" && !file.Name.Contains("safetensors", StringComparison.Ordinal));

    private Dictionary<string, Tensor> Block(InfiniAttentionModule attention, string prefix)
    {
        var layout = Decoder.Config.Family == "gpt2" ? AttentionLayout.Gpt2 : Decoder.Config.Family == "phi3" ? AttentionLayout.Phi3 : AttentionLayout.HuggingFaceLlama;
        return AttentionWeights.Save(attention, layout, prefix, Decoder.Config.Rotary is null ? null : RotaryPairing.Halves);
    }

    private void Write(Stream file)
    {
        var header = new JsonObject { ["__metadata__"] = new JsonObject { ["format"] = "pt" } };
        var end = 0L;
        foreach (var (name, _, shape) in entries)
        {
            var begin = end;
            end += shape.Aggregate((long)sizeof(float), (bytes, size) => bytes * size);
            header[name] = new JsonObject
            {
                ["dtype"] = "F32",
                ["shape"] = new JsonArray([.. shape.Select(size => JsonValue.Create(size))]),
                ["data_offsets"] = new JsonArray(begin, end),
            };
        }

        var json = JsonSerializer.SerializeToUtf8Bytes(header);
        Array.Resize(ref json, (json.Length + 7) / 8 * 8); // the format aligns the data by padding the header with spaces
        json.AsSpan().Replace((byte)0, (byte)' ');
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, json.Length);
        file.Write(length);
        file.Write(json);
        foreach (var (_, tensor, _) in entries)
        {
            using var scope = NewDisposeScope();
            TensorPieces.Each(tensor(), piece => file.Write(piece.bytes));
        }
    }

    /// <summary>llama2.c's header as Hugging Face's LLaMA; the weights are written with its pairing.</summary>
    private static string LlamaConfig(DecoderConfig config) => new JsonObject
    {
        ["architectures"] = new JsonArray("LlamaForCausalLM"),
        ["model_type"] = "llama",
        ["vocab_size"] = config.Vocabulary,
        ["hidden_size"] = config.Width,
        ["intermediate_size"] = config.MlpWidth,
        ["num_hidden_layers"] = config.Layers,
        ["num_attention_heads"] = config.Heads,
        ["num_key_value_heads"] = config.KeyValueHeads,
        ["max_position_embeddings"] = config.Length,
        ["rms_norm_eps"] = config.NormEpsilon,
        ["rope_theta"] = config.Rotary!.Theta,
        ["hidden_act"] = "silu",
        ["tie_word_embeddings"] = config.IsTied,
        ["bos_token_id"] = 1,
        ["eos_token_id"] = new JsonArray([.. config.EndTokens.Select(token => JsonValue.Create(token))]),
        ["torch_dtype"] = "float32",
    }.ToJsonString();
}
