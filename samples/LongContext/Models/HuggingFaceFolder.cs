using InfiniAttention;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>Fills a decoder with the weights of a Hugging Face folder. Every tensor of the folder is used, or is known to be no weight; otherwise it is named.</summary>
internal sealed class HuggingFaceFolder : FamilyWeights
{
    private readonly SafetensorsFolder weights;
    private readonly HashSet<string> read = [];

    private HuggingFaceFolder(string folder, Decoder decoder)
        : base(decoder) => weights = new(folder);

    public static Decoder Load(string folder, DecoderConfig config, ConversionOptions options, ScalarType type, Device? device)
    {
        var decoder = Decoder.Create(config, options, type, device);
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

    protected override void Weight(string name, Tensor weight, bool isTransposed = false)
    {
        using var scope = NewDisposeScope();
        Check(name, isTransposed ? [.. weight.shape.Reverse()] : weight.shape);
        var tensor = Read(name);
        weight.copy_(isTransposed ? tensor.t() : tensor);
    }

    protected override void Halves(string name, Tensor first, Tensor second)
    {
        using var scope = NewDisposeScope();
        Check(name, [2 * first.size(0), first.size(1)]);
        var halves = Read(name).chunk(2, 0);
        first.copy_(halves[0]);
        second.copy_(halves[1]);
    }

    protected override void Attention(string prefix, InfiniAttentionModule attention)
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

    private void Load()
    {
        Visit(weights.Tensors.ContainsKey("transformer.wte.weight") ? "transformer." : "");
        if (Decoder.Config.IsTied)
        {
            CheckTiedHead();
        }

        if (weights.Tensors.Keys.Order(StringComparer.Ordinal).FirstOrDefault(name => !read.Contains(name) && !IsNoWeight(name)) is { } unused)
        {
            var stored = weights.Tensors[unused];
            throw new InputException($"{stored.File} holds '{unused}' {Shape(stored.Shape)}, which a {Decoder.Config.Family} model of this configuration does not have.");
        }
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
        Check(Name, Decoder.Head.shape);
        if (!Read(Name).to(Decoder.Head.dtype).eq(Decoder.Head.cpu()).all().item<bool>())
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
