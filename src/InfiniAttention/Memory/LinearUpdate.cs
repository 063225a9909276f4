using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Equation 8: M_s = M_{s-1} + sigma(K)^T V. So T = 1 and W_s = sigma(K)^T V.</summary>
internal sealed class LinearUpdate : UpdateRule
{
    /// <inheritdoc/>
    public override bool UsesNormalizer => false;

    /// <inheritdoc/>
    public override (Tensor? T, Tensor W) Maps(SegmentWrites writes) => (null, writes.PerHead(writes.Written.transpose(1, 2).bmm(writes.Values)));
}
