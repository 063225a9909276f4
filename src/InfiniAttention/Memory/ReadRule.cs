namespace InfiniAttention;

/// <summary>How what is read from the memory is mixed with the local attention, apart from the gates.</summary>
/// <param name="Empty">What a query that finds nothing gets: A_dot alone, or A_mem as 0.</param>
/// <param name="Norm">The norms on the memory's path; null for none, as in the paper.</param>
internal sealed record ReadRule(EmptyMemory Empty, NormScales? Norm);
