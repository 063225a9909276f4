using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Keys, values and marks of the tokens of S segments.</summary>
/// <remarks>B batch, S segments, L tokens of each so far, G key/value heads, K key width, V value width.</remarks>
/// <param name="Keys">As the memory sees them, without position: (B, S, L, G, K)</param>
/// <param name="RotatedKeys">As the local attention sees them, (B, S, L, G, K); null without a rotary embedding.</param>
/// <param name="Values">(B, S, L, G, V)</param>
/// <param name="Marks">What is known of the tokens.</param>
internal sealed record SegmentTokens(Tensor Keys, Tensor? RotatedKeys, Tensor Values, SegmentMarks Marks)
{
    /// <summary>The keys as the local attention sees them.</summary>
    public Tensor LocalKeys => RotatedKeys ?? Keys;

    /// <summary>L</summary>
    public long Length => Keys.size(2);
}
