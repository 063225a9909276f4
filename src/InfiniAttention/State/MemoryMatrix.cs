using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>M (B, G, K, V) and z (B, G, K) after a segment.</summary>
internal sealed class MemoryMatrix : SharedTensors
{
    /// <param name="m">(B, G, K, V)</param>
    /// <param name="z">(B, G, K)</param>
    /// <param name="isEmpty">Whether both are known to be 0, so that nothing has to be read.</param>
    public MemoryMatrix(Tensor m, Tensor z, bool isEmpty = false)
    {
        (M, Z, IsEmpty) = (m.DetachFromDisposeScope(), z.DetachFromDisposeScope(), isEmpty);
    }

    public Tensor M { get; }

    public Tensor Z { get; }

    /// <summary>
    /// Whether M and z are known to be 0: nothing was written to them and nobody gave them. A position does not say so, because a caller
    /// may begin a stream with a memory of its own.
    /// </summary>
    public bool IsEmpty { get; }

    /// <summary>Applies <paramref name="map"/>, which keeps 0 as it is, to both.</summary>
    public MemoryMatrix Map(Func<Tensor, Tensor> map) => new(map(M), map(Z), IsEmpty);

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Tensors => [M, Z];
}
