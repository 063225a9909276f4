using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What the tokens of S whole segments write to the memory: the terms that update rules are made of.</summary>
/// <remarks>B batch, S segments, G key/value heads, N tokens of each segment, K key width, V value width.</remarks>
/// <param name="SigmaK">sigma(K), (B*S*G, N, K)</param>
/// <param name="Written">sigma(K) times the write weights, (B*S*G, N, K)</param>
/// <param name="Values">V, (B*S*G, N, V)</param>
/// <param name="NormalizerBefore">z before each segment, (B, S, G, K); 0 if a document starts in it</param>
/// <param name="NormalizerAfter">z after each segment, (B, S, G, K)</param>
internal sealed record SegmentWrites(Tensor SigmaK, Tensor Written, Tensor Values, Tensor NormalizerBefore, Tensor NormalizerAfter)
{
    /// <summary>(B*S*G, …, …) -> (B, S, G, …, …)</summary>
    public Tensor PerHead(Tensor matrices) =>
        matrices.view(NormalizerBefore.size(0), NormalizerBefore.size(1), NormalizerBefore.size(2), matrices.size(1), matrices.size(2));
}
