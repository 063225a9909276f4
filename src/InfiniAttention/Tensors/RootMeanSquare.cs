using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The root mean square over the width of a head.</summary>
internal static class RootMeanSquare
{
    /// <summary>1 / sqrt(mean(x²) + epsilon) over the last dimension, which is kept.</summary>
    public static Tensor Inverse(Tensor x, Scalar epsilon)
    {
        using var scope = NewDisposeScope();
        using Scalar inverseWidth = 1.0 / x.size((int)x.dim() - 1);
        var length = x.norm(-1, keepdim: true);
        return length.mul(length).mul(inverseWidth).add(epsilon, Scalars.One).rsqrt().MoveToOuterDisposeScope();
    }
}
