using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The tensors of one attention block in a <c>state_dict</c>, and what is wrong with them.</summary>
internal sealed class AttentionBlock
{
    private const int NamesListed = 20;

    private readonly string parameter;
    private readonly string place;
    private readonly SortedDictionary<string, Tensor> tensors = new(StringComparer.Ordinal);

    public AttentionBlock(IReadOnlyDictionary<string, Tensor> stateDict, string prefix, IEnumerable<string> skip)
    {
        parameter = nameof(stateDict);
        place = prefix.Length == 0 ? "The state_dict" : $"The state_dict below '{prefix}'";
        var start = Prefix(prefix);
        var skipped = skip.ToHashSet();
        if (skipped.Order(StringComparer.Ordinal).FirstOrDefault(name => IsWeight(name) && stateDict.ContainsKey(start + name)) is { } weight)
        {
            throw new ArgumentException(
                $"skip names '{weight}', which is a weight of the block: without it the layer would compute something else. "
                    + "Leave it out of skip; if it is then left over, the message names the option that takes it, if there is one.",
                nameof(skip));
        }

        foreach (var (name, tensor) in stateDict)
        {
            if (name.StartsWith(start, StringComparison.Ordinal) && !skipped.Contains(name[start.Length..]))
            {
                tensors[name[start.Length..]] = tensor ?? throw new ArgumentException($"The state_dict holds null as '{name}'.", nameof(stateDict));
            }
        }
    }

    public Tensor this[string name] => tensors[name];

    public bool Holds(string name) => tensors.ContainsKey(name);

    /// <summary>A prefix with its dot, whether it was given with one or without.</summary>
    public static string Prefix(string prefix) => prefix.Length == 0 || prefix.EndsWith('.') ? prefix : prefix + ".";

    /// <summary>Finds the layout of the block.</summary>
    /// <exception cref="ArgumentException">The layout is not supported; the message says what was found and what is supported.</exception>
    public LayoutNames Recognize()
    {
        if (Found("bias_k", "bias_v") is { Length: > 0 } added)
        {
            throw Refuse($"holds {added}: an nn.MultiheadAttention with add_bias_kv attends to a key that is not a token, which this layer does not support");
        }

        if (Found("q_proj_weight", "k_proj_weight", "v_proj_weight") is { Length: > 0 } cross)
        {
            throw Refuse($"holds {cross}: an nn.MultiheadAttention whose keys or values have their own width is for cross-attention; the layer supports self-attention only");
        }

        // The layout with the largest share of its weights present; a tie or no weights at all is an unsupported layout.
        var ranked = LayoutNames.All.Select(layout => (Layout: layout, Share: layout.Weights.Count(Holds) / (double)layout.Weights.Count()))
            .OrderByDescending(candidate => candidate.Share).ToArray();
        return ranked[0].Share > ranked[1].Share
            ? ranked[0].Layout
            : throw Refuse($"has an unsupported layout. It holds {All()}");
    }

    /// <summary>Throws one <see cref="ArgumentException"/> that names every tensor that is missing, left over or of a wrong shape or type.</summary>
    /// <param name="entries">What blocks of the layout can have.</param>
    /// <param name="optional">The shapes of further tensors, which may be missing.</param>
    public void Check(IReadOnlyList<BlockEntry> entries, IReadOnlyDictionary<string, long[]> optional)
    {
        var problems = entries.Where(entry => entry.IsTaken && !Holds(entry.Name))
            .Select(entry => $"'{entry.Name}' ({string.Join(", ", entry.Shape)}) is missing{(entry.Option is { } option ? $"; without it {option} must be false in the layer's options" : "")}")
            .ToList();
        var expected = entries.Where(entry => entry.IsTaken).ToDictionary(entry => entry.Name, entry => entry.Shape);
        foreach (var (name, shape) in optional)
        {
            expected[name] = shape;
        }

        foreach (var (name, tensor) in tensors)
        {
            if (!expected.TryGetValue(name, out var shape))
            {
                var hint = entries.FirstOrDefault(entry => entry.Name == name)?.Option is { } option ? $"; with it {option} must be true in the layer's options" : "";
                problems.Add($"'{name}' {Describe.Shape(tensor)} is left over{hint}");
            }
            else if (!tensor.shape.SequenceEqual(shape))
            {
                problems.Add($"'{name}' has shape {Describe.Shape(tensor)}; the layer takes ({string.Join(", ", shape)})");
            }
            else if (!Describe.IsFloating(tensor.dtype))
            {
                problems.Add($"'{name}' is of type {tensor.dtype}; the layer takes floating point numbers");
            }
        }

        if (problems.Count > 0)
        {
            throw new ArgumentException($"{place} does not fit the layer, and nothing was loaded:\n  {string.Join("\n  ", problems)}", parameter);
        }
    }

    /// <summary>Whether an entry is a parameter by its name; GPT-2's <c>bias</c> and <c>masked_bias</c>, without a module before them, are masks.</summary>
    private static bool IsWeight(string name) => name is "in_proj_weight" or "in_proj_bias" or "bias_k" or "bias_v"
        || name.EndsWith(".weight", StringComparison.Ordinal) || name.EndsWith(".bias", StringComparison.Ordinal);

    private string Found(params string[] names) => string.Join(", ", names.Where(Holds));

    private string All() => tensors.Count == 0
        ? "nothing there"
        : string.Join(", ", tensors.Take(NamesListed).Select(entry => $"'{entry.Key}' {Describe.Shape(entry.Value)}"))
            + (tensors.Count > NamesListed ? $" and {tensors.Count - NamesListed} more: pass the block's place in the model as the prefix" : "");

    private ArgumentException Refuse(string found) => new(
        $"{place} {found}. Supported layouts, each with or without biases: {string.Join("; ", LayoutNames.All.Select(layout => string.Join(" ", layout.Weights)))}.", parameter);
}

/// <summary>An entry that blocks of a layout can have.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Shape">Its shape.</param>
/// <param name="IsTaken">Whether the layer takes it.</param>
/// <param name="Option">The option that says so; null for what every block has.</param>
internal sealed record BlockEntry(string Name, long[] Shape, bool IsTaken = true, string? Option = null);
