namespace InfiniAttention;

/// <summary>How a segment is written to the compressive memory.</summary>
public enum MemoryUpdate
{
    /// <summary>M grows by sigma(K)^T V (equation 8 of the paper).</summary>
    Linear,

    /// <summary>What the keys already retrieve is subtracted from the values first (equation 9 of the paper).</summary>
    Delta,
}

/// <summary>By which normaliser the delta rule divides what a segment's keys retrieve before it is subtracted.</summary>
public enum DeltaNormalizer
{
    /// <summary>
    /// z before the segment, as the paper has it. A segment that writes more than twice what the memory holds (a short
    /// first commit before a long segment, say) overshoots: see docs/numerics.md.
    /// </summary>
    BeforeSegment,

    /// <summary>
    /// z after the segment. This is not the paper's rule, but one that never overshoots: the matrix subtracted has all
    /// its eigenvalues between 0 and 1, however much is written at once.
    /// </summary>
    AfterSegment,
}

/// <summary>What a row outputs while nothing is in its memory.</summary>
public enum EmptyMemory
{
    /// <summary>The local attention, ungated: a converted model is unchanged up to its first segment boundary.</summary>
    LocalOnly,

    /// <summary>The gated mixture with a memory read-out of 0.</summary>
    Gated,
}
