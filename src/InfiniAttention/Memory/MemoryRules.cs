namespace InfiniAttention;

/// <summary>How a segment is written to the compressive memory.</summary>
public enum MemoryUpdate
{
    /// <summary>M grows by sigma(K)^T V (equation 8 of the paper).</summary>
    Linear,

    /// <summary>What the keys already retrieve is subtracted from the values first (equation 9 of the paper).</summary>
    Delta,
}

/// <summary>Which normaliser the delta rule uses to retrieve what is subtracted from a segment's values.</summary>
public enum DeltaNormalizer
{
    /// <summary>
    /// z before the segment, as in the paper. A segment that writes more than twice what the memory holds (after a short
    /// first segment, for example) overshoots: see docs/numerics.md.
    /// </summary>
    BeforeSegment,

    /// <summary>
    /// z after the segment. This differs from the paper's rule, but never overshoots: the matrix subtracted has all
    /// its eigenvalues between 0 and 1, however much is written at once.
    /// </summary>
    AfterSegment,
}

/// <summary>What a row outputs while its memory is empty.</summary>
public enum EmptyMemory
{
    /// <summary>The local attention, ungated: a converted model is unchanged up to its first segment boundary.</summary>
    LocalOnly,

    /// <summary>The gated mix with A_mem = 0.</summary>
    Gated,
}
