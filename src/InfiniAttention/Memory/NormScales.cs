using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What a <see cref="MemoryNorm"/> does to heads, with its parameters in the memory's type.</summary>
/// <remarks>B batch, S segments, n tokens of each, G key/value heads, R = H/G query heads of each, K key width, V value width.</remarks>
/// <param name="QueryScale">a, (H)</param>
/// <param name="KeyScale">b, (G)</param>
/// <param name="ReadWeight">w, (H, V)</param>
internal sealed record NormScales(Tensor QueryScale, Tensor KeyScale, Tensor ReadWeight)
{
    /// <summary>What is added to the mean square.</summary>
    public const double Epsilon = 1e-6;

    private static readonly Scalar EpsilonScalar = Epsilon;

    /// <summary>q̂ of q (B, S, n, G, R, K) in the memory's type.</summary>
    public Tensor Queries(Tensor q) => Scaled(q, QueryScale);

    /// <summary>k̂ of k (B, S, n, G, 1, K) in the memory's type.</summary>
    public Tensor Keys(Tensor k) => Scaled(k, KeyScale);

    /// <summary>
    /// The normalised A_mem = numerator / denominator as two factors, so that the gate's share can be multiplied into the second: w times the numerator,
    /// and 1 / (denominator rms(A_mem)). A_mem itself, whose gradient would be five passes over all of it, is not formed.
    /// </summary>
    /// <param name="numerator">(B, S, n, G, R, V)</param>
    /// <param name="denominator">(B, S, n, G, R, 1)</param>
    /// <returns>(B, S, n, G, R, V) and (B, S, n, G, R, 1)</returns>
    public (Tensor Weighted, Tensor Factor) Read(Tensor numerator, Tensor denominator)
    {
        using var scope = NewDisposeScope();
        var weight = ReadWeight.view(numerator.size(3), numerator.size(4), numerator.size(5));
        var factor = RootMeanSquare.Inverse(numerator, EpsilonScalar, denominator).div(denominator);
        return (numerator.mul(weight).MoveToOuterDisposeScope(), factor.MoveToOuterDisposeScope());
    }

    /// <summary>x (B, S, n, G, R, K) times scale (H) / rms(x).</summary>
    public static Tensor Scaled(Tensor x, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return x.mul(RootMeanSquare.Inverse(x, EpsilonScalar).mul(scale.view(x.size(3), x.size(4), 1))).MoveToOuterDisposeScope();
    }
}
