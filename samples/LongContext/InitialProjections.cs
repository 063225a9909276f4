using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext;

/// <summary>How the samples' models draw the projections of an attention.</summary>
internal static class InitialProjections
{
    /// <summary>Normal with variance 1 / inputs; what adds to the residual stream starts smaller, by the square root of how often something is added.</summary>
    /// <param name="layers">How many layers the model has; each adds twice.</param>
    /// <param name="parameters">Those of an attention; others than q_proj, k_proj, v_proj and o_proj are left as they are.</param>
    public static void Draw(long layers, IEnumerable<(string Name, Parameter Weight)> parameters)
    {
        foreach (var (name, weight) in parameters.Where(entry => entry.Name is "q_proj.weight" or "k_proj.weight" or "v_proj.weight" or "o_proj.weight"))
        {
            nn.init.normal_(weight, 0, Deviation(weight, name == "o_proj.weight" ? 2 * layers : 1));
        }
    }

    /// <summary>The deviation of a weight (outputs, inputs), of which several add up.</summary>
    public static double Deviation(Tensor weight, long additions) => Math.Pow(weight.size(1) * additions, -0.5);
}
