using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The projections of tokens: q and k of the local attention, q and k of the memory (the same, or from its own projections), and v.</summary>
/// <param name="Q">(B, n, H*K)</param>
/// <param name="K">(B, n, G*K)</param>
/// <param name="V">(B, n, G*V)</param>
/// <param name="MemoryQ">(B, n, H*K); null if it is <paramref name="Q"/>.</param>
/// <param name="MemoryK">(B, n, G*K); null if it is <paramref name="K"/>.</param>
internal sealed record ProjectedHeads(Tensor Q, Tensor K, Tensor V, Tensor? MemoryQ, Tensor? MemoryK)
{
    /// <summary>The same cut into pieces of the given lengths.</summary>
    public ProjectedHeads[] Split(long[] lengths)
    {
        Tensor[] q = Pieces(Q), k = Pieces(K), v = Pieces(V);
        Tensor[]? memoryQ = MemoryQ is null ? null : Pieces(MemoryQ), memoryK = MemoryK is null ? null : Pieces(MemoryK);
        return [.. lengths.Select((_, i) => new ProjectedHeads(q[i], k[i], v[i], memoryQ?[i], memoryK?[i]))];

        Tensor[] Pieces(Tensor projected) => [.. projected.split(lengths, 1).Select(piece => piece.contiguous())];
    }
}
