using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>Visits every weight of a decoder under the name that its family gives it.</summary>
internal abstract class FamilyWeights(Decoder decoder)
{
    protected Decoder Decoder { get; } = decoder;

    /// <summary>Visits all weights.</summary>
    /// <param name="root">What stands before the names of GPT-2.</param>
    protected void Visit(string root)
    {
        if (Decoder.Config.Family == "gpt2")
        {
            VisitGpt2(root);
        }
        else
        {
            VisitLlama();
        }

        if (!Decoder.Config.IsTied)
        {
            Weight("lm_head.weight", Decoder.Head);
        }
    }

    /// <summary>A weight of the checkpoint, and the decoder's, which is its transpose or the same.</summary>
    protected abstract void Weight(string name, Tensor weight, bool isTransposed = false);

    /// <summary>Two weights of the decoder that the checkpoint has below each other.</summary>
    protected abstract void Halves(string name, Tensor first, Tensor second);

    protected abstract void Attention(string prefix, InfiniAttentionModule attention);

    private void VisitLlama()
    {
        Weight("model.embed_tokens.weight", Decoder.Body.Embedding.Weight);
        for (var i = 0; i < Decoder.Config.Layers; i++)
        {
            var (layer, prefix) = (Decoder.Body.Layers[i], $"model.layers.{i}");
            Norm($"{prefix}.input_layernorm", layer.AttentionNorm);
            Attention($"{prefix}.self_attn", layer.Infini);
            Norm($"{prefix}.post_attention_layernorm", layer.MlpNorm);
            if (Decoder.Config.Family == "phi3")
            {
                Halves($"{prefix}.mlp.gate_up_proj.weight", layer.Mlp.Gate!.weight!, layer.Mlp.Up.weight!);
            }
            else
            {
                Linear($"{prefix}.mlp.gate_proj", layer.Mlp.Gate!);
                Linear($"{prefix}.mlp.up_proj", layer.Mlp.Up);
            }

            Linear($"{prefix}.mlp.down_proj", layer.Mlp.Down);
        }

        Norm("model.norm", Decoder.Body.Norm);
    }

    private void VisitGpt2(string root)
    {
        Weight($"{root}wte.weight", Decoder.Body.Embedding.Weight);
        Weight($"{root}wpe.weight", ((TokenEmbedding)Decoder.Body.Embedding).Positions!);
        for (var i = 0; i < Decoder.Config.Layers; i++)
        {
            var (layer, prefix) = (Decoder.Body.Layers[i], $"{root}h.{i}");
            Norm($"{prefix}.ln_1", layer.AttentionNorm);
            Attention($"{prefix}.attn", layer.Infini);
            Norm($"{prefix}.ln_2", layer.MlpNorm);
            Linear($"{prefix}.mlp.c_fc", layer.Mlp.Up, isTransposed: true);
            Linear($"{prefix}.mlp.c_proj", layer.Mlp.Down, isTransposed: true);
        }

        Norm($"{root}ln_f", Decoder.Body.Norm);
    }

    private void Norm(string name, DecoderNorm norm)
    {
        Weight($"{name}.weight", norm.Weight);
        if (norm.Bias is { } bias)
        {
            Weight($"{name}.bias", bias);
        }
    }

    private void Linear(string name, Linear linear, bool isTransposed = false)
    {
        Weight($"{name}.weight", linear.weight!, isTransposed);
        if (linear.bias is { } bias)
        {
            Weight($"{name}.bias", bias);
        }
    }
}
