using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>M (B, G, K, V) and z (B, G, K) after a segment.</summary>
internal sealed class MemoryMatrix : SharedTensors
{
    public MemoryMatrix(Tensor m, Tensor z)
    {
        (M, Z) = (m.DetachFromDisposeScope(), z.DetachFromDisposeScope());
    }

    public Tensor M { get; }

    public Tensor Z { get; }

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Tensors => [M, Z];
}
