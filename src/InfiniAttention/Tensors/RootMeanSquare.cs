using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The root mean square over the width of a head.</summary>
internal static class RootMeanSquare
{
    /// <summary>1 / sqrt(mean((x / divisor)²) + epsilon) over the last dimension, which is kept.</summary>
    /// <param name="x">(…, V)</param>
    /// <param name="epsilon">What is added to the mean square.</param>
    /// <param name="divisor">(…, 1), which divides the length of x instead of x; null for 1.</param>
    public static Tensor Inverse(Tensor x, Scalar epsilon, Tensor? divisor = null)
    {
        using var scope = NewDisposeScope();
        using Scalar inverseWidth = 1.0 / x.size((int)x.dim() - 1);
        var norm = x.norm(-1, keepdim: true);
        var length = divisor is null ? norm : norm.div(divisor);
        return length.mul(length).mul(inverseWidth).add(epsilon, Scalars.One).rsqrt().MoveToOuterDisposeScope();
    }
}
