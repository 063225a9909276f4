namespace InfiniAttention;

/// <summary>The entries of a layer's <c>state_dict</c> that belong only to its memory: other attention blocks have none of them.</summary>
internal static class MemoryParameters
{
    private static readonly string[] Names =
    [
        "gate", "memory_norm.query_scale", "memory_norm.key_scale", "memory_norm.read_weight", "memory_q_proj.weight", "memory_k_proj.weight",
    ];

    /// <summary>Whether an entry of a layer is one of them.</summary>
    public static bool Contains(string name) => Names.Contains(name);

    /// <summary>The name of the layer that a model's entry belongs to, if the entry is one of them; null otherwise.</summary>
    public static string? LayerOf(string entry) => Names
        .Where(name => entry == name || entry.EndsWith("." + name, StringComparison.Ordinal))
        .Select(name => entry[..^name.Length].TrimEnd('.')).FirstOrDefault();
}
