using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext;

/// <summary>Initialises the projections of an attention in the samples' models.</summary>
internal static class InitialProjections
{
    /// <summary>Normal with variance 1 / inputs; projections that add to the residual stream start smaller, by the square root of the number of additions.</summary>
    /// <param name="layers">How many layers the model has; each adds twice.</param>
    /// <param name="parameters">The parameters of an attention; all but q_proj, k_proj, v_proj and o_proj are left unchanged.</param>
    public static void Draw(long layers, IEnumerable<(string Name, Parameter Weight)> parameters)
    {
        foreach (var (name, weight) in parameters.Where(entry => entry.Name is "q_proj.weight" or "k_proj.weight" or "v_proj.weight" or "o_proj.weight"))
        {
            nn.init.normal_(weight, 0, Deviation(weight, name == "o_proj.weight" ? 2 * layers : 1));
        }
    }

    /// <summary>The standard deviation of a weight (outputs, inputs) whose output is one of several that are added up.</summary>
    public static double Deviation(Tensor weight, long additions) => Math.Pow(weight.size(1) * additions, -0.5);
}
