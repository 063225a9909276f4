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
    public Tensor Queries(Tensor q) => Scaled(q, QueryScale.view(q.size(3), q.size(4), 1));

    /// <summary>k̂ of k (B, S, n, G, 1, K) in the memory's type.</summary>
    public Tensor Keys(Tensor k) => Scaled(k, KeyScale.view(k.size(3), 1, 1));

    /// <summary>The normalised A_mem as two factors, so that the gate's share can be multiplied into the second: w A_mem, and 1 / rms(A_mem).</summary>
    /// <param name="a">A_mem, (B, S, n, G, R, V)</param>
    /// <returns>(B, S, n, G, R, V) and (B, S, n, G, R, 1)</returns>
    public (Tensor Weighted, Tensor InverseRms) Read(Tensor a)
    {
        using var scope = NewDisposeScope();
        var weight = ReadWeight.view(a.size(3), a.size(4), a.size(5));
        return (a.mul(weight).MoveToOuterDisposeScope(), RootMeanSquare.Inverse(a, EpsilonScalar).MoveToOuterDisposeScope());
    }

    private static Tensor Scaled(Tensor x, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return x.mul(RootMeanSquare.Inverse(x, EpsilonScalar).mul(scale)).MoveToOuterDisposeScope();
    }
}
