using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// An Infini-attention layer with the forward and the <c>state_dict</c> of <c>nn.MultiheadAttention</c>, for causal
/// self-attention: a model changes the type at one declaration and loads its old weights with <see cref="AttentionWeights.LoadModel(nn.Module, IReadOnlyDictionary{string, Tensor})"/>.
/// </summary>
/// <remarks>
/// T tokens, B batch, E width, N segment length. Sequence first: (T, B, E). Parameters are <c>in_proj_weight</c> (3E, E),
/// <c>in_proj_bias</c>, <c>out_proj.weight</c>, <c>out_proj.bias</c> and <c>attention.gate</c>. Read through a <see cref="SegmentStreamer"/> the layer continues its stream.
/// </remarks>
public sealed class InfiniMultiheadAttention : nn.Module<Tensor, Tensor, Tensor, Tensor?, bool, Tensor?, Tuple<Tensor, Tensor>>
{
    private readonly Parameter in_proj_weight;
    private readonly Parameter? in_proj_bias;
    private readonly Linear out_proj;
    private readonly InfiniAttentionModule attention;
    private readonly bool causalWithoutMask;

    /// <summary>Creates the layer, initialised like <c>nn.MultiheadAttention</c>. The parameters up to <paramref name="vdim"/> are those of that module, except the segment length.</summary>
    /// <param name="embedded_dim">Width E.</param>
    /// <param name="num_heads">Number of heads; divides E.</param>
    /// <param name="segment_length">Segment length N in tokens: the window of the local attention.</param>
    /// <param name="dropout">Probability of dropping a local attention weight in training.</param>
    /// <param name="bias">Whether the projections have biases.</param>
    /// <param name="add_bias_kv">Must be false: the added key is not a token.</param>
    /// <param name="add_zero_attn">Must be false: the added key is not a token.</param>
    /// <param name="kdim">Must be E or null: the layer attends to itself.</param>
    /// <param name="vdim">Must be E or null.</param>
    /// <param name="update">How segments are written to the memory.</param>
    /// <param name="gateInit">Initial beta of every head's gate.</param>
    /// <param name="causalWithoutMask">
    /// What a call without attn_mask means. False: every token sees all others, as in <c>nn.MultiheadAttention</c>, which is
    /// refused. True: causal attention, so that long inputs need no T x T mask.
    /// </param>
    /// <param name="device">Where the parameters are created; default: TorchSharp's default device.</param>
    /// <param name="dtype">float32, float64, bfloat16 or float16; default: TorchSharp's default type.</param>
    /// <exception cref="ArgumentException">The layer does not support an argument; the message says what is allowed.</exception>
    public InfiniMultiheadAttention(
        long embedded_dim, long num_heads, long segment_length, double dropout = 0.0, bool bias = true, bool add_bias_kv = false, bool add_zero_attn = false,
        long? kdim = null, long? vdim = null, MemoryUpdate update = MemoryUpdate.Linear, double gateInit = 0.0, bool causalWithoutMask = false,
        Device? device = null, ScalarType? dtype = null)
        : this(
            Checked(
                new InfiniAttentionOptions
                {
                    EmbedDim = embedded_dim,
                    NumHeads = num_heads,
                    SegmentLength = segment_length,
                    Dropout = dropout,
                    Bias = bias,
                    Update = update,
                    GateInit = gateInit,
                },
                add_bias_kv, add_zero_attn, kdim, vdim),
            causalWithoutMask, device, dtype)
    {
    }

    /// <summary>Creates the layer from options.</summary>
    /// <param name="options">Shape and rules; queries, keys and values must each have width E, because their weights are one (3E, E) tensor.</param>
    /// <param name="causalWithoutMask">What a call without attn_mask means: refused (false) or causal attention (true).</param>
    /// <param name="device">The device on which the parameters are created; default: TorchSharp's default device.</param>
    /// <param name="dtype">float32, float64, bfloat16 or float16; default: TorchSharp's default type.</param>
    /// <exception cref="ArgumentException">The options do not describe such a layer; the message says what is allowed.</exception>
    public InfiniMultiheadAttention(InfiniAttentionOptions options, bool causalWithoutMask = false, Device? device = null, ScalarType? dtype = null)
        : base(nameof(InfiniMultiheadAttention))
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        var width = options.EmbedDim;
        Require(options.NumHeads * options.KeyWidth == width && options.KeyValueHeads * options.KeyWidth == width && options.KeyValueHeads * options.ValueWidth == width,
            $"The options have {options.NumHeads} query heads of {options.KeyWidth} and {options.KeyValueHeads} key/value heads of {options.KeyWidth} and {options.ValueWidth}; "
                + $"queries, keys and values must each be EmbedDim ({width}) wide.", nameof(options));
        Require(!options.QueryKeyNorm, "QueryKeyNorm is true; it must be false, because nn.MultiheadAttention has no norms of queries and keys.", nameof(options));
        Require(options.InputBias is not null,
            $"QueryBias, KeyBias and ValueBias are {options.Biases.Query}, {options.Biases.Key} and {options.Biases.Value}; they must be equal, because their biases are one tensor.",
            nameof(options));
        attention = new(options, new Projections(x => Project(x, 0), x => Project(x, 1), x => Project(x, 2), x => out_proj!.call(x)), device, dtype);
        this.causalWithoutMask = causalWithoutMask;
        var type = attention.Gate.dtype;
        in_proj_weight = Parameters.Own(nn.init.xavier_uniform_(empty(3 * width, width, type, device)));
        in_proj_bias = options.InputBias == true ? Parameters.Own(zeros(3 * width, type, device)) : null;
        out_proj = nn.Linear(width, width, options.Biases.Output, device, type);
        if (options.Biases.Output)
        {
            nn.init.zeros_(out_proj.bias!);
        }

        RegisterComponents();
    }

    /// <summary>The options, once the arguments that only <c>nn.MultiheadAttention</c> has are known to be supported: before any parameter is created.</summary>
    private static InfiniAttentionOptions Checked(InfiniAttentionOptions options, bool add_bias_kv, bool add_zero_attn, long? kdim, long? vdim)
    {
        var width = options.EmbedDim;
        Require(!add_bias_kv, "add_bias_kv is true; it must be false, because the added key is not a token.", nameof(add_bias_kv));
        Require(!add_zero_attn, "add_zero_attn is true; it must be false, because the added key is not a token.", nameof(add_zero_attn));
        Require(kdim is null || kdim == width, $"kdim is {kdim}; it must be embedded_dim ({width}), because the layer attends to itself.", nameof(kdim));
        Require(vdim is null || vdim == width, $"vdim is {vdim}; it must be embedded_dim ({width}), because the layer attends to itself.", nameof(vdim));
        return options;
    }

    /// <summary>Shape and rules of the layer.</summary>
    public InfiniAttentionOptions Options => attention.Options;

    /// <summary>beta of each head, (H). The memory's share of a head's output is sigmoid(beta).</summary>
    public Parameter Gate => attention.Gate;

    /// <summary>Causal self-attention over a sequence, from an empty memory or continuing the active <see cref="SegmentStreamer"/>'s stream.</summary>
    /// <param name="query">(T, B, E)</param>
    /// <param name="key">The same tensor as <paramref name="query"/>.</param>
    /// <param name="value">The same tensor as <paramref name="query"/>.</param>
    /// <param name="key_padding_mask">(B, T), bool or byte, true for a token to ignore. Outputs at such tokens are finite.</param>
    /// <param name="need_weights">Whether to return the attention weights; supported for a sequence in one call up to the first segment boundary, without Rotary.</param>
    /// <param name="attn_mask">
    /// The causal mask, (T, T) or (B*H, T, T): bool or byte with true above the diagonal, or numbers to add with 0 up to the
    /// diagonal and -10000 or less above it. Null is allowed for a single token, or with causalWithoutMask.
    /// </param>
    /// <returns>
    /// The output, (T, B, E), and, if asked for, the attention weights, (B, T, T), averaged over the heads, before
    /// dropout; otherwise, as in <c>nn.MultiheadAttention</c>, an invalid tensor.
    /// </returns>
    /// <exception cref="ArgumentException">The layer does not support an argument; the message says why. Nothing was computed or changed.</exception>
    public override Tuple<Tensor, Tensor> forward(Tensor query, Tensor key, Tensor value, Tensor? key_padding_mask, bool need_weights, Tensor? attn_mask)
    {
        CheckSequence(query, key, value);
        var (tokens, batch) = (query.size(0), query.size(1));
        CheckPadding(key_padding_mask, tokens, batch, query.device);
        CheckMask(attn_mask, tokens, batch);
        var slot = StreamSlot.Of(attention);
        CheckWeights(need_weights, slot, tokens);

        using var scope = NewDisposeScope();
        var x = query.transpose(0, 1); // (B, T, E)
        var padding = key_padding_mask?.to(ScalarType.Bool);
        var output = attention.forward(x, WithPadding(slot?.Info, padding)).transpose(0, 1);
        var weights = need_weights ? Weights(x, padding).MoveToOuterDisposeScope() : Invalid();
        return Tuple.Create(output.MoveToOuterDisposeScope(), weights);
    }

    /// <summary>Calls <see cref="forward"/> with the defaults of <c>nn.MultiheadAttention</c>.</summary>
    /// <inheritdoc cref="forward"/>
    public new Tuple<Tensor, Tensor> call(Tensor query, Tensor key, Tensor value, Tensor? key_padding_mask = null, bool need_weights = true, Tensor? attn_mask = null) =>
        base.call(query, key, value, key_padding_mask, need_weights, attn_mask);

    /// <summary>q, k or v (part 0, 1 or 2), (B, T, E), from x (B, T, E).</summary>
    private Tensor Project(Tensor x, long part)
    {
        using var scope = NewDisposeScope();
        var width = Options.EmbedDim;
        return nn.functional.linear(x, in_proj_weight.narrow(0, part * width, width), in_proj_bias?.narrow(0, part * width, width)).MoveToOuterDisposeScope();
    }

    /// <summary>The attention weights of a first segment, (B, T, T), averaged over the heads; 0 for a query that sees no key.</summary>
    private Tensor Weights(Tensor x, Tensor? padding)
    {
        var (q, k) = (Heads(Project(x, 0)), Heads(Project(x, 1)));
        var visible = SegmentMarks.Causal(x.size(1), x.size(1), x.device).view(1, 1, x.size(1), x.size(1));
        if (padding is not null)
        {
            visible = visible & ~padding.view(padding.size(0), 1, 1, -1);
        }

        using Scalar scale = 1 / Math.Sqrt(q.size(-1));
        var scores = (q * scale).matmul(k.transpose(-2, -1));
        var hidden = ~visible & visible.any(-1, true); // a row without any key is cleared below, so that no NaN arises
        return scores.masked_fill(hidden, Scalars.MinusInfinity).softmax(-1).masked_fill(~visible, Scalars.Zero).mean([1]).to(x.dtype);

        // in float32 for float16, whose scores overflow at 65504
        Tensor Heads(Tensor projected) => (x.dtype == ScalarType.Float16 ? projected.to(ScalarType.Float32) : projected)
            .view(projected.size(0), projected.size(1), Options.NumHeads, -1).transpose(1, 2); // (B, H, T, K)
    }

    private static TokenInfo? WithPadding(TokenInfo? info, Tensor? padding)
    {
        if (padding is null)
        {
            return info;
        }

        // The layer would check the combined mask, but combining would already have broadcast a mask of another shape.
        info?.Validate(padding.size(0), padding.size(1), padding.device);
        return (info ?? new()).WithPadding(info?.KeyPaddingMask is { } mask ? mask.logical_or(padding) : padding);
    }

    /// <summary>What <c>nn.MultiheadAttention</c> returns if the weights are not asked for.</summary>
    private static Tensor Invalid()
    {
        var tensor = empty([0], ScalarType.Float32, CPU);
        tensor.Dispose();
        return tensor;
    }

    private void CheckSequence(Tensor query, Tensor key, Tensor value)
    {
        ArgumentNullException.ThrowIfNull(query);
        Require(ReferenceEquals(query, key) && ReferenceEquals(query, value),
            "key or value is another tensor than query; the layer attends to itself: pass the same tensor three times.", nameof(key));
        Require(query.dim() == 3 && query.size(2) == Options.EmbedDim && query.size(0) >= 1 && query.size(1) >= 1,
            $"query has shape {Describe.Shape(query)}; it must be (T, B, E) with at least one token and one row, and E = {Options.EmbedDim}.", nameof(query));
    }

    private static void CheckPadding(Tensor? mask, long tokens, long batch, Device device)
    {
        Require(
            mask is null || (mask.dtype is ScalarType.Bool or ScalarType.Byte && Describe.HasShape(mask, batch, tokens) && Describe.Same(mask.device, device)),
            $"key_padding_mask is {mask?.dtype} of shape {(mask is null ? "" : Describe.Shape(mask))} on {mask?.device}; "
                + $"it must be Bool or Byte of shape (B, T) = ({batch}, {tokens}) on {device}, like query.",
            "key_padding_mask");
    }

    private void CheckMask(Tensor? mask, long tokens, long batch)
    {
        const string Name = "attn_mask";
        if (mask is null)
        {
            Require(tokens == 1 || causalWithoutMask,
                "attn_mask is null, which lets every token see all others, and this layer is causal: pass the causal mask, or create the layer with causalWithoutMask: true.", Name);
            return;
        }

        Require(Describe.HasShape(mask, tokens, tokens) || Describe.HasShape(mask, batch * Options.NumHeads, tokens, tokens),
            $"attn_mask has shape {Describe.Shape(mask)}; it must be (T, T) = ({tokens}, {tokens}) or (B*H, T, T) = ({batch * Options.NumHeads}, {tokens}, {tokens}).", Name);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var visible = SegmentMarks.Causal(tokens, tokens, mask.device);
        var isCausal = mask.dtype is ScalarType.Bool or ScalarType.Byte
            ? mask.to(ScalarType.Bool) != visible
            : (visible & (mask == Scalars.Zero)) | (~visible & (mask <= Scalars.Hidden));
        Require(Describe.AllTrue(isCausal), "attn_mask is not the causal mask; the layer attends causally inside segments and supports no other mask.", Name);
    }

    private void CheckWeights(bool isWanted, StreamSlot? slot, long tokens)
    {
        Require(!isWanted || Options.Rotary is null, "need_weights is true, but the weights of a layer with Rotary are not computed: pass false.", "need_weights");
        var start = slot?.PositionOf(attention) ?? 0;
        Require(!isWanted || (start == 0 && tokens <= Options.SegmentLength && slot?.Info is null),
            $"need_weights is true for tokens {start} to {start + tokens}{(slot?.Info is null ? "" : " with the token info of a streamer")}; weights exist only for a sequence "
            + $"in one call of at most a segment ({Options.SegmentLength} tokens), because the memory has no weight per token. Pass false.",
            "need_weights");
    }

    private static void Require(bool holds, string message, string parameter)
    {
        if (!holds)
        {
            throw new ArgumentException(message, parameter);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            in_proj_weight.Dispose();
            in_proj_bias?.Dispose();
            out_proj.Dispose();
            attention.Dispose();
        }

        base.Dispose(disposing);
    }
}
