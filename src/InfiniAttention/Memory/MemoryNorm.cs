using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The norms on the memory's path, an option beyond the paper: q̂ = a q / rms(q) and k̂ = b k / rms(k) before sigma, with a scalar a and b for each
/// head, and A_mem ← w A_mem / rms(A_mem) before the gate, with V numbers w for each head; rms(x) = sqrt(mean(x²) + 1e-6) over the width of a head.
/// </summary>
/// <remarks>G key/value heads, H query heads, V value width.</remarks>
internal sealed class MemoryNorm : nn.Module
{
    /// <summary>The initial a and b: large enough that a key that matches a query outweighs those that do not.</summary>
    private const double InitialScale = 6;

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
        query_scale = Parameters.Own(empty([heads], type, device));
        key_scale = Parameters.Own(empty([keyHeads], type, device));
        read_weight = Parameters.Own(empty([heads, valueWidth], type, device));
        Reset();
        RegisterComponents();
    }

    public void Reset()
    {
        nn.init.constant_(query_scale, InitialScale);
        nn.init.constant_(key_scale, InitialScale);
        nn.init.ones_(read_weight);
    }

    /// <summary>The parameters in the memory's type. They are cast once per call, so that the gradients of its blocks are summed in that type.</summary>
    public NormScales In(ScalarType type) => new(Describe.As(query_scale, type), Describe.As(key_scale, type), Describe.As(read_weight, type));

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
