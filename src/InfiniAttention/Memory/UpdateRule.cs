using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// How a segment is written to the memory: M_s = T_s M_{s-1} + W_s, affine in M. A rule gives T and W of all segments of a block at
/// once; <see cref="SegmentScan"/> runs the recurrence. A further rule is a file like <see cref="LinearUpdate"/> and a line in <see cref="Of"/>.
/// </summary>
internal abstract class UpdateRule
{
    /// <summary>Whether T or W depend on the normaliser z.</summary>
    public abstract bool UsesNormalizer { get; }

    /// <summary>The maps of the S segments.</summary>
    /// <returns>T (B, S, G, K, K), null for the identity; W (B, S, G, K, V). The recurrence runs in the type of T.</returns>
    public abstract (Tensor? T, Tensor W) Maps(SegmentWrites writes);

    /// <summary>The rule that the options name.</summary>
    public static UpdateRule Of(MemoryUpdate update, DeltaNormalizer normalizer) => update switch
    {
        MemoryUpdate.Linear => new LinearUpdate(),
        MemoryUpdate.Delta => new DeltaUpdate(normalizer),
        _ => throw new ArgumentException($"update is {update}; it must be Linear or Delta.", nameof(update)),
    };
}
