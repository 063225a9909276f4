using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The norms on the memory's path, which are not the paper's: q̂ = a q / rms(q) and k̂ = b k / rms(k) before sigma, with a scalar a and b for each
/// head, and A_mem ← w A_mem / rms(A_mem) before the gate, with V numbers w for each head; rms(x) = sqrt(mean(x²) + 1e-6) over the width of a head.
/// </summary>
/// <remarks>B batch, S segments, n tokens of each, G key/value heads, R = H/G query heads of each, K key width, V value width.</remarks>
internal sealed class MemoryNorm : nn.Module
{
    /// <summary>What is added to the mean square.</summary>
    public const double Epsilon = 1e-6;

    /// <summary>a and b at the start: features far from flat, so that a key that matches outweighs those that do not.</summary>
    private const double InitialScale = 6;

    private static readonly Scalar EpsilonScalar = Epsilon;

    private readonly Parameter query_scale;
    private readonly Parameter key_scale;
    private readonly Parameter read_weight;

    /// <param name="heads">H</param>
    /// <param name="keyHeads">G</param>
    /// <param name="valueWidth">V</param>
    /// <param name="type">The layer's type.</param>
    /// <param name="device">The layer's device.</param>
    public MemoryNorm(long heads, long keyHeads, long valueWidth, ScalarType type, Device? device)
        : base(nameof(MemoryNorm))
    {
        query_scale = Own(empty([heads], type, device));
        key_scale = Own(empty([keyHeads], type, device));
        read_weight = Own(empty([heads, valueWidth], type, device));
        Reset();
        RegisterComponents();

        static Parameter Own(Tensor tensor) => (Parameter)new Parameter(tensor).DetachFromDisposeScope();
    }

    /// <summary>a, (H)</summary>
    public Tensor QueryScale => query_scale;

    /// <summary>b, (G)</summary>
    public Tensor KeyScale => key_scale;

    /// <summary>w, (H, V)</summary>
    public Tensor ReadWeight => read_weight;

    public void Reset()
    {
        nn.init.constant_(query_scale, InitialScale);
        nn.init.constant_(key_scale, InitialScale);
        nn.init.ones_(read_weight);
    }

    /// <summary>q̂ of q (B, S, n, G, R, K) in the memory's type.</summary>
    public Tensor Queries(Tensor q) => Scaled(q, Describe.As(query_scale, q.dtype).view(q.size(3), q.size(4), 1));

    /// <summary>k̂ of k (B, S, n, G, 1, K) in the memory's type.</summary>
    public Tensor Keys(Tensor k) => Scaled(k, Describe.As(key_scale, k.dtype).view(k.size(3), 1, 1));

    /// <summary>The norm of A_mem in two factors, so that the gate's share can go into the second: w A_mem, and 1 / rms(A_mem).</summary>
    /// <param name="a">A_mem, (B, S, n, G, R, V)</param>
    /// <returns>(B, S, n, G, R, V) and (B, S, n, G, R, 1)</returns>
    public (Tensor Weighted, Tensor InverseRms) Read(Tensor a)
    {
        using var scope = NewDisposeScope();
        var weight = Describe.As(read_weight, a.dtype).view(a.size(3), a.size(4), a.size(5));
        return (a.mul(weight).MoveToOuterDisposeScope(), InverseRms(a).MoveToOuterDisposeScope());
    }

    private static Tensor Scaled(Tensor x, Tensor scale)
    {
        using var scope = NewDisposeScope();
        return x.mul(InverseRms(x).mul(scale)).MoveToOuterDisposeScope();
    }

    /// <summary>1 / sqrt(mean(x²) + epsilon) over the last dimension, which is kept.</summary>
    private static Tensor InverseRms(Tensor x)
    {
        using var scope = NewDisposeScope();
        using Scalar inverseWidth = 1.0 / x.size((int)x.dim() - 1);
        var length = x.norm(-1, keepdim: true);
        return length.mul(length).mul(inverseWidth).add(EpsilonScalar, Scalars.One).rsqrt().MoveToOuterDisposeScope();
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            query_scale.Dispose();
            key_scale.Dispose();
            read_weight.Dispose();
        }

        base.Dispose(disposing);
    }
}
