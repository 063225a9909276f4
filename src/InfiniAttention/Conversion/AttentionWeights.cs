using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Loads the weights of other attention blocks into an <see cref="InfiniAttentionModule"/>, and saves them in the layouts of those blocks.</summary>
/// <remarks>
/// The supported layouts are those of <see cref="AttentionLayout"/>, each with or without biases and with any number of
/// key/value heads. Until the first segment boundary a layer with <see cref="EmptyMemory.LocalOnly"/> then computes what the
/// block computed, whatever its gate.
/// </remarks>
public static partial class AttentionWeights
{
    /// <summary>Loads the weights of a block, recognising its layout by the names and shapes of its tensors.</summary>
    /// <param name="module">The layer to load into; its options say what is expected.</param>
    /// <param name="stateDict">The weights, of any floating point type, on any device: those of the block, or of a whole model.</param>
    /// <param name="prefix">The block's place in <paramref name="stateDict"/>, such as <c>layers.0.self_attn</c>; empty if it holds only the block.</param>
    /// <param name="pairing">
    /// The rotary pairing that the weights were trained with; if it is not the layer's, queries and keys are reordered so
    /// that all scores stay the same. Null: the layer's own, nothing is reordered.
    /// </param>
    /// <param name="skip">Names after the prefix that are not weights, such as <c>rotary_emb.inv_freq</c>, to skip.</param>
    /// <returns>The layout that was recognised.</returns>
    /// <remarks>
    /// The parameters of the layer's memory (<c>gate</c>, <c>memory_norm.…</c>, <c>memory_q_proj.weight</c>, <c>memory_k_proj.weight</c>) are loaded if they are
    /// present; otherwise the layer's values stay unchanged.
    /// </remarks>
    /// <exception cref="ArgumentException">
    /// The layout is not supported (cross-attention and added key/value biases included); or tensors are missing, left over
    /// or of a wrong shape, and the message names them all. Nothing was loaded.
    /// </exception>
    public static AttentionLayout Load(
        InfiniAttentionModule module, IReadOnlyDictionary<string, Tensor> stateDict, string prefix = "", RotaryPairing? pairing = null, IEnumerable<string>? skip = null)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(stateDict);
        ArgumentNullException.ThrowIfNull(prefix);
        var options = module.Options;
        CheckOwner(module);
        CheckPairing(options, pairing);
        var block = new AttentionBlock(stateDict, prefix, skip ?? []);
        var names = block.Recognize();
        var targets = module.state_dict();
        var ofMemory = targets.Where(entry => MemoryParameters.Contains(entry.Key)).ToDictionary(entry => entry.Key, entry => Describe.Sizes(entry.Value));
        block.Check(Shapes(options, names), ofMemory, options.Bias);

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var converted = new Dictionary<string, Tensor>();
        foreach (var kind in Kinds(options))
        {
            var (q, k, v) = names.IsFused ? Split(Tensor(names.Input(0, kind)), options) : (Tensor(names.Input(0, kind)), Tensor(names.Input(1, kind)), Tensor(names.Input(2, kind)));
            converted[$"q_proj.{kind}"] = Reorder(q, options, pairing, options.Rotary?.Pairing);
            converted[$"k_proj.{kind}"] = Reorder(k, options, pairing, options.Rotary?.Pairing);
            converted[$"v_proj.{kind}"] = v;
            converted[$"o_proj.{kind}"] = Tensor(names.OutputTensor(kind));
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

        Tensor Tensor(string name) => names.IsTransposed ? block[name].t() : block[name]; // a vector is its own transpose
    }

    /// <summary>The layer's weights in another layout, as <see cref="Load"/> takes them.</summary>
    /// <param name="module">The layer.</param>
    /// <param name="layout">The layout to save in.</param>
    /// <param name="prefix">What to put before each name, with a dot between; empty for nothing.</param>
    /// <param name="pairing">The rotary pairing of the model that will use the weights; null: the layer's own, nothing is reordered.</param>
    /// <returns>Copies of the weights, to be disposed of by the caller. The parameters of the memory, such as the gate, have no place in another layout and are not included.</returns>
    /// <exception cref="ArgumentException">The pairing is given for a layer without rotary embedding, or the layout is undefined.</exception>
    public static Dictionary<string, Tensor> Save(InfiniAttentionModule module, AttentionLayout layout, string prefix = "", RotaryPairing? pairing = null)
    {
        ArgumentNullException.ThrowIfNull(module);
        ArgumentNullException.ThrowIfNull(prefix);
        var options = module.Options;
        CheckOwner(module);
        CheckPairing(options, pairing);
        var names = LayoutNames.All.SingleOrDefault(candidate => candidate.Layout == layout)
            ?? throw new ArgumentException($"layout is {layout}; it must be one of {string.Join(", ", Enum.GetNames<AttentionLayout>())}.", nameof(layout));

        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var weights = module.state_dict();
        var saved = new Dictionary<string, Tensor>();
        foreach (var kind in Kinds(options))
        {
            Tensor[] inputs =
            [
                Reorder(weights[$"q_proj.{kind}"], options, options.Rotary?.Pairing, pairing),
                Reorder(weights[$"k_proj.{kind}"], options, options.Rotary?.Pairing, pairing),
                weights[$"v_proj.{kind}"],
            ];
            inputs = names.IsFused ? [cat(inputs, 0)] : inputs;
            for (var i = 0; i < inputs.Length; i++)
            {
                saved[names.Input(i, kind)] = names.IsTransposed ? inputs[i].t() : inputs[i];
            }

            var output = weights[$"o_proj.{kind}"];
            saved[names.OutputTensor(kind)] = names.IsTransposed ? output.t() : output;
        }

        var before = AttentionBlock.Prefix(prefix);
        return saved.ToDictionary(entry => before + entry.Key, entry => entry.Value.detach().contiguous().clone().MoveToOuterDisposeScope());
    }

    private static string[] Kinds(InfiniAttentionOptions options) => options.Bias ? ["weight", "bias"] : ["weight"];

    private static long QueryRows(InfiniAttentionOptions options) => options.NumHeads * options.KeyWidth;

    private static long KeyRows(InfiniAttentionOptions options) => options.KeyValueHeads * options.KeyWidth;

    private static long ValueRows(InfiniAttentionOptions options) => options.KeyValueHeads * options.ValueWidth;

    /// <summary>The name and shape of every tensor that a block of the given layout must have to fit the options.</summary>
    private static Dictionary<string, long[]> Shapes(InfiniAttentionOptions options, LayoutNames names)
    {
        long[] rows = [QueryRows(options), KeyRows(options), ValueRows(options)];
        rows = names.IsFused ? [rows.Sum()] : rows;
        var shapes = new Dictionary<string, long[]>();
        for (var i = 0; i < rows.Length; i++)
        {
            shapes[names.Input(i, "weight")] = names.IsTransposed ? [options.EmbedDim, rows[i]] : [rows[i], options.EmbedDim];
            shapes[names.Input(i, "bias")] = [rows[i]];
        }

        var inner = options.NumHeads * options.ValueWidth;
        shapes[names.OutputTensor("weight")] = names.IsTransposed ? [inner, options.EmbedDim] : [options.EmbedDim, inner];
        shapes[names.OutputTensor("bias")] = [options.EmbedDim];
        return shapes;
    }

    private static (Tensor Q, Tensor K, Tensor V) Split(Tensor fused, InfiniAttentionOptions options)
    {
        var (q, k, v) = (QueryRows(options), KeyRows(options), ValueRows(options));
        return (fused.narrow(0, 0, q), fused.narrow(0, q, k), fused.narrow(0, q + k, v));
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
