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

    /// <summary>The layout of the block.</summary>
    /// <exception cref="ArgumentException">It is none that is understood; the message says what was found and what is.</exception>
    public LayoutNames Recognize()
    {
        if (Found("bias_k", "bias_v") is { Length: > 0 } added)
        {
            throw Refuse($"holds {added}: an nn.MultiheadAttention with add_bias_kv attends to a key that is no token, which a layer of segments does not have");
        }

        if (Found("q_proj_weight", "k_proj_weight", "v_proj_weight") is { Length: > 0 } cross)
        {
            throw Refuse($"holds {cross}: an nn.MultiheadAttention whose keys or values have a width of their own is for cross-attention; the layer attends its input to itself");
        }

        // The layout of which most is there; a tie or nothing at all is no layout.
        var ranked = LayoutNames.All.Select(layout => (Layout: layout, Share: layout.Weights.Count(Holds) / (double)layout.Weights.Count()))
            .OrderByDescending(candidate => candidate.Share).ToArray();
        return ranked[0].Share > ranked[1].Share
            ? ranked[0].Layout
            : throw Refuse($"has an unsupported layout. It holds {All()}");
    }

    /// <summary>Throws one <see cref="ArgumentException"/> that names every tensor that is missing, left over or misshapen.</summary>
    /// <param name="shapes">What the layout has, weights and biases.</param>
    /// <param name="optional">Further tensors, which may be there.</param>
    /// <param name="hasBias">Whether the layer takes the biases.</param>
    public void Check(IReadOnlyDictionary<string, long[]> shapes, IReadOnlyDictionary<string, long[]> optional, bool hasBias)
    {
        var expected = shapes.Where(entry => hasBias || !IsBias(entry.Key)).ToDictionary(entry => entry.Key, entry => entry.Value);
        var aboutBias = shapes.Keys.Where(IsBias).Any(Holds)
            ? "; where the block has none beside its other biases, add zeros under that name"
            : "; without it Bias must be false in the layer's options";
        var problems = expected.Keys.Where(name => !Holds(name))
            .Select(name => $"'{name}' ({string.Join(", ", expected[name])}) is missing{(IsBias(name) ? aboutBias : "")}").ToList();
        foreach (var (name, shape) in optional)
        {
            expected[name] = shape;
        }

        foreach (var (name, tensor) in tensors)
        {
            if (!expected.TryGetValue(name, out var shape))
            {
                problems.Add($"'{name}' {Describe.Shape(tensor)} is left over{(shapes.ContainsKey(name) ? "; with it Bias must be true in the layer's options" : "")}");
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

    private static bool IsBias(string name) => name.EndsWith("bias", StringComparison.Ordinal);

    private string Found(params string[] names) => string.Join(", ", names.Where(Holds));

    private string All() => tensors.Count == 0
        ? "nothing there"
        : string.Join(", ", tensors.Take(NamesListed).Select(entry => $"'{entry.Key}' {Describe.Shape(entry.Value)}"))
            + (tensors.Count > NamesListed ? $" and {tensors.Count - NamesListed} more: the block's place goes into the prefix" : "");

    private ArgumentException Refuse(string found) => new(
        $"{place} {found}. Supported layouts, each with or without biases: {string.Join("; ", LayoutNames.All.Select(layout => string.Join(" ", layout.Weights)))}.", parameter);
}
