using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The norm of every query or key head before the rotation, an option: x ← w x / rms(x) with K numbers w for all heads.</summary>
internal sealed class HeadNorm : nn.Module
{
    private readonly Parameter weight;

    /// <param name="width">K</param>
    /// <param name="type">The layer's type.</param>
    /// <param name="device">The layer's device.</param>
    public HeadNorm(long width, ScalarType type, Device? device)
        : base(nameof(HeadNorm))
    {
        weight = Parameters.Own(ones([width], type, device));
        RegisterComponents();
    }

    public void Reset() => nn.init.ones_(weight);

    /// <summary>w in the memory's type. It is cast once per call, so that the gradients of its blocks are summed in that type.</summary>
    public Tensor In(ScalarType type) => Describe.As(weight, type);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            weight.Dispose();
        }

        base.Dispose(disposing);
    }
}

/// <summary>What <see cref="HeadNorm"/>s do to the heads of queries and keys, with their weights in the memory's type.</summary>
/// <param name="QueryWeight">(K)</param>
/// <param name="KeyWeight">(K)</param>
/// <param name="Epsilon">What is added to the mean square.</param>
internal sealed record HeadScales(Tensor QueryWeight, Tensor KeyWeight, Scalar Epsilon)
{
    /// <summary>q (…, K), normalised in the memory's type and returned in its own.</summary>
    public Tensor Queries(Tensor q) => Scaled(q, QueryWeight);

    /// <summary>k (…, K), normalised in the memory's type and returned in its own.</summary>
    public Tensor Keys(Tensor k) => Scaled(k, KeyWeight);

    private Tensor Scaled(Tensor x, Tensor weight)
    {
        using var scope = NewDisposeScope();
        var exact = Describe.As(x, weight.dtype);
        return Describe.As(exact.mul(RootMeanSquare.Inverse(exact, Epsilon)).mul(weight), x.dtype).MoveToOuterDisposeScope();
    }
}
