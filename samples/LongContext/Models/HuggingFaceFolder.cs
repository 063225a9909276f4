using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>Fills a decoder with the weights of a Hugging Face folder. Every tensor of the folder is used, or is known to be no weight; otherwise it is named.</summary>
internal sealed class HuggingFaceFolder
{
    private readonly SafetensorsFolder weights;
    private readonly PretrainedDecoder decoder;
    private readonly HashSet<string> read = [];

    private HuggingFaceFolder(string folder, PretrainedDecoder decoder)
    {
        weights = new(folder);
        this.decoder = decoder;
    }

    public static PretrainedDecoder Load(string folder, ConversionOptions options, ScalarType type, Device? device)
    {
        var decoder = PretrainedDecoder.Create(HuggingFaceConfig.Read(folder), options, type, device);
        try
        {
            using var noGrad = no_grad();
            new HuggingFaceFolder(folder, decoder).Load();
            return decoder;
        }
        catch
        {
            decoder.Dispose();
            throw;
        }
    }

    private void Load()
    {
        if (decoder.Config.IsGpt2)
        {
            LoadGpt2(weights.Tensors.ContainsKey("transformer.wte.weight") ? "transformer." : "");
        }
        else
        {
            LoadLlama();
        }

        if (decoder.Config.IsTied)
        {
            CheckTiedHead();
        }
        else
        {
            Copy("lm_head.weight", decoder.Head);
        }

        if (weights.Tensors.Keys.Order(StringComparer.Ordinal).FirstOrDefault(name => !read.Contains(name) && !IsNoWeight(name)) is { } unused)
        {
            var stored = weights.Tensors[unused];
            throw new InputException($"{stored.File} holds '{unused}' {Shape(stored.Shape)}, which a {decoder.Config.Family} model of this configuration does not have.");
        }
    }

    private void LoadLlama()
    {
        Copy("model.embed_tokens.weight", decoder.Body.Embedding);
        for (var i = 0; i < decoder.Config.Layers; i++)
        {
            var (layer, prefix) = (decoder.Body.Layers[i], $"model.layers.{i}");
            Norm($"{prefix}.input_layernorm", layer.AttentionNorm);
            LoadAttention($"{prefix}.self_attn", layer.Attention);
            Norm($"{prefix}.post_attention_layernorm", layer.MlpNorm);
            if (decoder.Config.Family == "phi3")
            {
                CopyHalves($"{prefix}.mlp.gate_up_proj.weight", layer.Mlp.Gate!.weight, layer.Mlp.Up.weight);
            }
            else
            {
                Linear($"{prefix}.mlp.gate_proj", layer.Mlp.Gate!);
                Linear($"{prefix}.mlp.up_proj", layer.Mlp.Up);
            }

            Linear($"{prefix}.mlp.down_proj", layer.Mlp.Down);
        }

        Norm("model.norm", decoder.Body.Norm);
    }

    private void LoadGpt2(string root)
    {
        Copy($"{root}wte.weight", decoder.Body.Embedding);
        Copy($"{root}wpe.weight", decoder.Body.Positions!);
        for (var i = 0; i < decoder.Config.Layers; i++)
        {
            var (layer, prefix) = (decoder.Body.Layers[i], $"{root}h.{i}");
            Norm($"{prefix}.ln_1", layer.AttentionNorm);
            LoadAttention($"{prefix}.attn", layer.Attention);
            Norm($"{prefix}.ln_2", layer.MlpNorm);
            Linear($"{prefix}.mlp.c_fc", layer.Mlp.Up, isTransposed: true);
            Linear($"{prefix}.mlp.c_proj", layer.Mlp.Down, isTransposed: true);
        }

        Norm($"{root}ln_f", decoder.Body.Norm);
    }

    private void LoadAttention(string prefix, InfiniAttentionModule attention)
    {
        using var scope = NewDisposeScope();
        var block = weights.Tensors.Keys.Where(name => name.StartsWith(prefix + ".", StringComparison.Ordinal) && !IsNoWeight(name)).ToDictionary(name => name, Read);
        try
        {
            AttentionWeights.Load(attention, block, prefix);
        }
        catch (ArgumentException error)
        {
            throw new InputException($"The attention of {HuggingFaceConfig.FileName} does not fit the weights: {string.Join(';', error.Message.Split('\n'))}");
        }
    }

    private void Norm(string name, DecoderNorm norm)
    {
        Copy($"{name}.weight", norm.Weight);
        if (norm.Bias is { } bias)
        {
            Copy($"{name}.bias", bias);
        }
    }

    private void Linear(string name, Linear linear, bool isTransposed = false)
    {
        Copy($"{name}.weight", linear.weight!, isTransposed);
        if (linear.bias is { } bias)
        {
            Copy($"{name}.bias", bias);
        }
    }

    private void Copy(string name, Tensor target, bool isTransposed = false)
    {
        using var scope = NewDisposeScope();
        Check(name, isTransposed ? [.. target.shape.Reverse()] : target.shape);
        var tensor = Read(name);
        target.copy_(isTransposed ? tensor.t() : tensor);
    }

    private void CopyHalves(string name, Tensor first, Tensor second)
    {
        using var scope = NewDisposeScope();
        Check(name, [2 * first.size(0), first.size(1)]);
        var halves = Read(name).chunk(2, 0);
        first.copy_(halves[0]);
        second.copy_(halves[1]);
    }

    private void Check(string name, long[] expected)
    {
        if (!weights.Tensors.TryGetValue(name, out var stored))
        {
            throw new InputException($"The folder's weights lack '{name}' {Shape(expected)}.");
        }

        if (!stored.Shape.SequenceEqual(expected))
        {
            throw new InputException($"{stored.File} holds '{name}' {Shape(stored.Shape)}; by {HuggingFaceConfig.FileName} it is {Shape(expected)}.");
        }
    }

    /// <summary>A folder of a model whose head is its embedding may hold the head once more, but not another one.</summary>
    private void CheckTiedHead()
    {
        const string Name = "lm_head.weight";
        if (!weights.Tensors.ContainsKey(Name))
        {
            return;
        }

        using var scope = NewDisposeScope();
        Check(Name, decoder.Head.shape);
        if (!Read(Name).to(decoder.Head.dtype).eq(decoder.Head.cpu()).all().item<bool>())
        {
            throw new InputException($"{HuggingFaceConfig.FileName} has tie_word_embeddings, but '{Name}' is not the embedding.");
        }
    }

    private Tensor Read(string name)
    {
        read.Add(name);
        return weights.Read(name);
    }

    /// <summary>Frequencies and causal masks, which some versions saved with the weights.</summary>
    private static bool IsNoWeight(string name) => name.EndsWith(".rotary_emb.inv_freq", StringComparison.Ordinal)
        || name.EndsWith(".attn.bias", StringComparison.Ordinal) || name.EndsWith(".attn.masked_bias", StringComparison.Ordinal);

    private static string Shape(long[] sizes) => $"({string.Join(", ", sizes)})";
}
