namespace InfiniAttention;

/// <summary>The entries of a layer's <c>state_dict</c> that belong to its memory alone, so that an attention block has none of them.</summary>
internal static class MemoryParameters
{
    private static readonly string[] Names =
    [
        "gate", "memory_norm.query_scale", "memory_norm.key_scale", "memory_norm.read_weight", "memory_q_proj.weight", "memory_k_proj.weight",
    ];

    /// <summary>Whether a layer's entry is one of them.</summary>
    public static bool Contains(string name) => Names.Contains(name);

    /// <summary>The layer's entry that a model's entry ends with, if it is one of them; null otherwise.</summary>
    public static string? LayerOf(string entry) => Names
        .Where(name => entry == name || entry.EndsWith("." + name, StringComparison.Ordinal))
        .Select(name => entry[..^name.Length].TrimEnd('.')).FirstOrDefault();
}
