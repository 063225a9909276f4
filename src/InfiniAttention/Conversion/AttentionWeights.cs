using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Loads the weights of other attention blocks into an <see cref="InfiniAttentionModule"/>, and saves them in the layouts of those blocks.</summary>
/// <remarks>
/// The supported layouts are those of <see cref="AttentionLayout"/>, with any number of key/value heads, with the biases and the norms of queries and keys that the
/// layer's options say. Until the first segment boundary a layer with <see cref="EmptyMemory.LocalOnly"/> then computes what the
/// block computed, whatever its gate.
/// </remarks>
public static partial class AttentionWeights
{
    private static readonly string[] Kinds = ["weight", "bias"];

    /// <summary>The layer's projections of queries, keys and values.</summary>
    private static readonly string[] InputNames = ["q_proj", "k_proj", "v_proj"];

    /// <summary>The norms of queries and keys, in every layout.</summary>
    private static readonly string[] NormNames = ["q_norm.weight", "k_norm.weight"];

    /// <summary>Loads the weights of a block, recognising its layout by the names and shapes of its tensors.</summary>
    /// <param name="module">The layer to load into; its options say what is expected.</param>
    /// <param name="stateDict">The weights, of any floating point type, on any device: those of the block, or of a whole model.</param>
    /// <param name="prefix">The block's place in <paramref name="stateDict"/>, such as <c>layers.0.self_attn</c>; empty if it holds only the block.</param>
    /// <param name="pairing">
    /// The rotary pairing that the weights were trained with; if it is not the layer's, queries and keys are reordered so
    /// that all scores stay the same. Null: the layer's own, nothing is reordered.
    /// </param>
    /// <param name="skip">Names after the prefix that are not weights, such as <c>rotary_emb.inv_freq</c>, to skip. Weights are refused, so that none is dropped in silence.</param>
    /// <returns>The layout that was recognised.</returns>
    /// <remarks>
    /// The parameters of the layer's memory (<c>gate</c>, <c>memory_norm.…</c>, <c>memory_q_proj.weight</c>, <c>memory_k_proj.weight</c>) are loaded if they are
    /// present; otherwise the layer's values stay unchanged.
    /// </remarks>
    /// <exception cref="ArgumentException">
    /// The layout is not supported (cross-attention and added key/value biases included); or tensors are missing, left over
    /// or of a wrong shape, and the message names them all; or the layer was given projections that are not linear layers as its options describe
    /// them, such as adapters. Nothing was loaded.
    /// </exception>
    public static AttentionLayout Load(
        InfiniAttentionModule module, IReadOnlyDictionary<string, Tensor> stateDict, string prefix = "", RotaryPairing? pairing = null, IEnumerable<string>? skip = null)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(stateDict);
        ArgumentNullException.ThrowIfNull(prefix);
        var options = module.Options;
        CheckOwner(module);
        CheckProjections(module);
        CheckPairing(options, pairing);
        var block = new AttentionBlock(stateDict, prefix, skip ?? []);
        var names = block.Recognize();
        var targets = module.state_dict();
        var ofMemory = targets.Where(entry => MemoryParameters.Contains(entry.Key)).ToDictionary(entry => entry.Key, entry => Describe.Sizes(entry.Value));
        block.Check(Entries(options, names), ofMemory);

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var converted = new Dictionary<string, Tensor>();
        foreach (var kind in Kinds)
        {
            for (var i = 0; i < InputNames.Length; i++)
            {
                if (Input(i, kind) is { } rows)
                {
                    converted[$"{InputNames[i]}.{kind}"] = Reorder(rows, options, HasPairs(i) ? pairing : null, options.Rotary?.Pairing);
                }
            }

            if (block.Holds(names.OutputTensor(kind)))
            {
                converted[$"o_proj.{kind}"] = Tensor(names.OutputTensor(kind));
            }
        }

        foreach (var name in NormNames.Where(block.Holds))
        {
            converted[name] = Reorder(block[name], options, pairing, options.Rotary?.Pairing);
        }

        foreach (var name in ofMemory.Keys.Where(block.Holds))
        {
            converted[name] = block[name];
        }

        foreach (var (name, tensor) in converted)
        {
            targets[name].copy_(tensor);
        }

        return names.Layout;

        // After the check the block holds what the layer takes, and nothing else.
        Tensor? Input(int i, string kind)
        {
            var name = names.Input(names.IsFused ? 0 : i, kind);
            return !block.Holds(name) ? null : names.IsFused ? Tensor(name).split(InputRows(options))[i] : Tensor(name);
        }

        Tensor Tensor(string name) => names.IsTransposed ? block[name].t() : block[name]; // a vector is its own transpose
    }

    /// <summary>The layer's weights in another layout, as <see cref="Load"/> takes them.</summary>
    /// <param name="module">The layer.</param>
    /// <param name="layout">The layout to save in.</param>
    /// <param name="prefix">What to put before each name, with a dot between; empty for nothing.</param>
    /// <param name="pairing">The rotary pairing of the model that will use the weights; null: the layer's own, nothing is reordered.</param>
    /// <returns>Copies of the weights, to be disposed of by the caller. The parameters of the memory, such as the gate, have no place in another layout and are not included.</returns>
    /// <exception cref="ArgumentException">
    /// The pairing is given for a layer without rotary embedding, the layout is undefined, or the layer was given projections that are not linear layers as
    /// its options describe them: merge adapters into their weights first.
    /// </exception>
    public static Dictionary<string, Tensor> Save(InfiniAttentionModule module, AttentionLayout layout, string prefix = "", RotaryPairing? pairing = null)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(prefix);
        var options = module.Options;
        CheckOwner(module);
        CheckProjections(module);
        CheckPairing(options, pairing);
        var names = LayoutNames.All.SingleOrDefault(candidate => candidate.Layout == layout)
            ?? throw new ArgumentException($"layout is {layout}; it must be one of {string.Join(", ", Enum.GetNames<AttentionLayout>())}.", nameof(layout));

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var weights = module.state_dict();
        var saved = new Dictionary<string, Tensor>();
        foreach (var kind in Kinds)
        {
            Tensor?[] inputs = [.. InputNames.Select((name, i) => Reordered($"{name}.{kind}", HasPairs(i)))];
            inputs = names.IsFused ? [Fused(inputs)] : inputs;
            for (var i = 0; i < inputs.Length; i++)
            {
                Add(names.Input(i, kind), inputs[i]);
            }

            Add(names.OutputTensor(kind), weights.GetValueOrDefault($"o_proj.{kind}"));
        }

        foreach (var name in NormNames)
        {
            Add(name, Reordered(name, true));
        }

        var before = AttentionBlock.Prefix(prefix);
        return saved.ToDictionary(entry => before + entry.Key, entry => entry.Value.detach().contiguous().clone().MoveToOuterDisposeScope());

        Tensor? Reordered(string name, bool hasPairs) =>
            weights.TryGetValue(name, out var rows) ? Reorder(rows, options, hasPairs ? options.Rotary?.Pairing : null, pairing) : null;

        // One tensor for queries, keys and values: a bias that one of them does not have is 0.
        Tensor? Fused(Tensor?[] parts)
        {
            var rows = InputRows(options);
            return parts.All(part => part is null) ? null : cat([.. parts.Select((part, i) => part ?? weights["gate"].new_zeros(rows[i]))], 0);
        }

        void Add(string name, Tensor? tensor)
        {
            if (tensor is not null)
            {
                saved[name] = names.IsTransposed && tensor.dim() == 2 ? tensor.t() : tensor;
            }
        }
    }

    /// <summary>The rows of queries, keys and values.</summary>
    private static long[] InputRows(InfiniAttentionOptions options) =>
        [options.NumHeads * options.KeyWidth, options.KeyValueHeads * options.KeyWidth, options.KeyValueHeads * options.ValueWidth];

    /// <summary>Whether an input is rotated: queries and keys are, values are not.</summary>
    private static bool HasPairs(int input) => input < 2;

    /// <summary>The tensors that a block of the given layout can have, and which of them the options take.</summary>
    private static List<BlockEntry> Entries(InfiniAttentionOptions options, LayoutNames names)
    {
        var (query, key, value, output) = options.Biases;
        if (names.IsFused && options.InputBias is null)
        {
            throw new ArgumentException(
                $"The layer's QueryBias, KeyBias and ValueBias are {query}, {key} and {value}; they must be equal for weights with one '{names.Input(0, "bias")}' for all three.",
                nameof(options));
        }

        var rows = InputRows(options);
        (long Rows, bool HasBias, string Option)[] inputs = names.IsFused
            ? [(rows.Sum(), query, "QueryBias, KeyBias and ValueBias")]
            : [(rows[0], query, nameof(options.QueryBias)), (rows[1], key, nameof(options.KeyBias)), (rows[2], value, nameof(options.ValueBias))];
        var inner = options.NumHeads * options.ValueWidth;
        var entries = new List<BlockEntry>();
        for (var i = 0; i < inputs.Length; i++)
        {
            entries.Add(new(names.Input(i, "weight"), names.IsTransposed ? [options.EmbedDim, inputs[i].Rows] : [inputs[i].Rows, options.EmbedDim]));
            entries.Add(new(names.Input(i, "bias"), [inputs[i].Rows], inputs[i].HasBias, $"Bias or {inputs[i].Option}"));
        }

        entries.Add(new(names.OutputTensor("weight"), names.IsTransposed ? [inner, options.EmbedDim] : [options.EmbedDim, inner]));
        entries.Add(new(names.OutputTensor("bias"), [options.EmbedDim], output, $"Bias or {nameof(options.OutputBias)}"));
        entries.AddRange(NormNames.Select(name => new BlockEntry(name, [options.KeyWidth], options.QueryKeyNorm, nameof(options.QueryKeyNorm))));
        return entries;
    }

    /// <summary>
    /// The rows of each head, (heads * K, …), in the order of another rotary pairing. Interleaved rows 0, 1, 2, 3 … are the
    /// pairs (0, 1), (2, 3) …; in halves the same pairs are at (0, W/2), (1, W/2 + 1) …, where W is the number of rotated elements.
    /// </summary>
    private static Tensor Reorder(Tensor rows, InfiniAttentionOptions options, RotaryPairing? from, RotaryPairing? to)
    {
        if (from is null || to is null || from == to)
        {
            return rows;
        }

        var (width, turned) = (options.KeyWidth, options.RotaryWidth);
        var heads = rows.view([rows.shape[0] / width, width, .. rows.shape[1..]]);
        var first = heads.narrow(1, 0, turned);
        var pairs = from == RotaryPairing.Interleaved
            ? first.view([first.shape[0], turned / 2, 2, .. rows.shape[1..]])
            : first.view([first.shape[0], 2, turned / 2, .. rows.shape[1..]]);
        return cat([pairs.transpose(1, 2).reshape(first.shape), heads.narrow(1, turned, width - turned)], 1).view(rows.shape);
    }

    private static void CheckOwner(InfiniAttentionModule module)
    {
        if (!module.HasProjectionModules)
        {
            throw new ArgumentException($"The layer uses the weights of an {nameof(InfiniMultiheadAttention)}: use that module's state_dict.", nameof(module));
        }
    }

    /// <summary>Throws unless the projections hold what the options say and nothing else: given ones may have adapters, quantised weights or other biases.</summary>
    private static void CheckProjections(InfiniAttentionModule module)
    {
        var expected = Entries(module.Options, LayoutNames.All.Single(names => names.Layout == AttentionLayout.HuggingFaceLlama))
            .Where(entry => entry.IsTaken && IsOfProjection(entry.Name)).ToDictionary(entry => entry.Name, entry => entry.Shape);
        var found = module.state_dict().Where(entry => IsOfProjection(entry.Key)).ToDictionary(entry => entry.Key, entry => entry.Value);
        string[] problems =
        [
            .. expected.Where(entry => !found.ContainsKey(entry.Key)).Select(entry => $"'{entry.Key}' ({string.Join(", ", entry.Value)}) is missing"),
            .. found.Where(entry => !expected.ContainsKey(entry.Key)).Select(entry => $"'{entry.Key}' {Describe.Shape(entry.Value)} is left over"),
            .. found.Where(entry => expected.TryGetValue(entry.Key, out var shape) && !(Describe.HasShape(entry.Value, shape) && Describe.IsFloating(entry.Value.dtype)))
                .Select(entry => $"'{entry.Key}' is {entry.Value.dtype} {Describe.Shape(entry.Value)}; by the options it is floating point ({string.Join(", ", expected[entry.Key])})"),
        ];
        if (problems.Length > 0)
        {
            throw new ArgumentException(
                $"The layer's given projections are not the linear layers that its options describe; nothing was saved or loaded:\n  {string.Join("\n  ", problems)}",
                nameof(module));
        }

        static bool IsOfProjection(string name) => InputNames.Append("o_proj").Any(projection => name.StartsWith(projection + ".", StringComparison.Ordinal));
    }

    private static void CheckPairing(InfiniAttentionOptions options, RotaryPairing? pairing)
    {
        if (pairing is { } given && !Enum.IsDefined(given))
        {
            throw new ArgumentException($"pairing is {given}; it must be Halves or Interleaved.", nameof(pairing));
        }

        if (pairing is not null && options.Rotary is null)
        {
            throw new ArgumentException($"pairing is {pairing}, but the layer has no rotary embedding: set Rotary in its options, or leave the pairing out.", nameof(pairing));
        }
    }
}
