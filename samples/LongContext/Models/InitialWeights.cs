using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>
/// The first weights of the models that the program trains from nothing: normal with variance 1 / inputs; projections that add to the residual stream start smaller, by the
/// square root of the number of additions.
/// </summary>
internal static class InitialWeights
{
    /// <summary>Draws the projections of an attention.</summary>
    /// <param name="layers">How many layers the model has; each adds twice.</param>
    /// <param name="parameters">The parameters of an attention; all but q_proj, k_proj, v_proj and o_proj are left unchanged.</param>
    public static void Draw(long layers, IEnumerable<(string Name, Parameter Weight)> parameters)
    {
        foreach (var (name, weight) in parameters.Where(entry => entry.Name is "q_proj.weight" or "k_proj.weight" or "v_proj.weight" or "o_proj.weight"))
        {
            Draw(weight, name == "o_proj.weight" ? 2 * layers : 1);
        }
    }

    /// <summary>Draws an MLP without a gate; its biases become 0.</summary>
    public static void Draw(long layers, DecoderMlp mlp)
    {
        Draw(mlp.Up.weight!, 1);
        Draw(mlp.Down.weight!, 2 * layers);
        nn.init.zeros_(mlp.Up.bias!);
        nn.init.zeros_(mlp.Down.bias!);
    }

    /// <summary>Draws the embedding and the head of a decoder that are not one.</summary>
    public static void DrawEnds(Decoder decoder)
    {
        nn.init.normal_(decoder.Body.Embedding.Weight, 0, 0.5);
        nn.init.normal_(decoder.Head, 0, 0.02);
    }

    /// <summary>Draws a weight (outputs, inputs) whose output is one of several that are added up.</summary>
    public static void Draw(Tensor weight, long additions) => nn.init.normal_(weight, 0, Math.Pow(weight.size(1) * additions, -0.5));
}
