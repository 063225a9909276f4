using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The Infini-attention layer (Munkhdalai, Faruqui, Gopal, arXiv 2404.07143): causal attention inside segments of N tokens,
/// a compressive memory of all segments before, and a learned gate that mixes the two for each head.
/// </summary>
/// <remarks>
/// B batch, T tokens, D model width, H query heads, G key/value heads, R = H/G query heads of each, K key width, V value
/// width, N segment length, S segments. Parameters are <c>q_proj</c>, <c>k_proj</c>, <c>v_proj</c>, <c>o_proj</c> and <c>gate</c>.
/// M and z are float32 whatever the layer's type, float64 in a float64 layer. In evaluation any number of threads may share a layer.
/// </remarks>
public sealed partial class InfiniAttentionModule : nn.Module<Tensor, Tensor>
{
    private readonly Linear? q_proj;
    private readonly Linear? k_proj;
    private readonly Linear? v_proj;
    private readonly Linear? o_proj;
    private readonly Parameter gate;
    private readonly Projections projections;
    private readonly RotaryEmbedding? rotary;

    /// <summary>Creates the layer with TorchSharp's default initialisation of its projections.</summary>
    /// <param name="options">Shape and rules.</param>
    /// <param name="device">Where the parameters are created; default: TorchSharp's default device.</param>
    /// <param name="dtype">float32, float64, bfloat16 or float16; default: TorchSharp's default type.</param>
    /// <exception cref="ArgumentException">The options describe no layer, or the type is not floating point; the message says what is allowed.</exception>
    public InfiniAttentionModule(InfiniAttentionOptions options, Device? device = null, ScalarType? dtype = null)
        : this(options, null, device, dtype)
    {
    }

    /// <summary>Creates the layer around projections that another module owns, or around its own where there are none.</summary>
    internal InfiniAttentionModule(InfiniAttentionOptions options, Projections? projections, Device? device, ScalarType? dtype)
        : base(nameof(InfiniAttentionModule))
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        var type = dtype ?? get_default_dtype();
        if (!Describe.IsFloating(type))
        {
            throw new ArgumentException($"dtype is {type}; it must be Float32, Float64, BFloat16 or Float16.", nameof(dtype));
        }

        Options = options;
        if (projections is null)
        {
            var (queryWidth, keyWidth, valueWidth) = (options.NumHeads * options.KeyWidth, options.KeyValueHeads * options.KeyWidth, options.KeyValueHeads * options.ValueWidth);
            q_proj = nn.Linear(options.EmbedDim, queryWidth, options.Bias, device, type);
            k_proj = nn.Linear(options.EmbedDim, keyWidth, options.Bias, device, type);
            v_proj = nn.Linear(options.EmbedDim, valueWidth, options.Bias, device, type);
            o_proj = nn.Linear(options.NumHeads * options.ValueWidth, options.EmbedDim, options.Bias, device, type);
            projections = new(q_proj.call, k_proj.call, v_proj.call, o_proj.call);
        }

        this.projections = projections;
        Scalar beta = options.GateInit;
        gate = new Parameter(full([options.NumHeads], beta, type, device));
        GC.KeepAlive(beta);
        gate.DetachFromDisposeScope();
        rotary = options.Rotary is { } rotaryOptions ? new RotaryEmbedding(rotaryOptions, options.RotaryWidth, options.SegmentLength) : null;
        RegisterComponents();
    }

    /// <summary>The options the layer was made with.</summary>
    public InfiniAttentionOptions Options { get; }

    /// <summary>beta of each head, (H). The memory's share of a head's output is sigmoid(beta), equation 10.</summary>
    public Parameter Gate => gate;

    /// <summary>Attends x from an empty memory, or continues the stream of the active <see cref="SegmentStreamer"/>.</summary>
    /// <param name="x">(B, T, D)</param>
    /// <returns>(B, T, D)</returns>
    /// <exception cref="ArgumentException">x has another shape, type or device than the layer takes; nothing was computed or changed.</exception>
    public override Tensor forward(Tensor x) => forward(x, null);

    /// <summary>Attends x from an empty memory, or continues the stream of the active <see cref="SegmentStreamer"/>.</summary>
    /// <param name="x">(B, T, D)</param>
    /// <param name="info">What is known of each token; null: what the active streamer says, or nothing.</param>
    /// <returns>(B, T, D)</returns>
    /// <exception cref="ArgumentException">x or info has another shape, type or device than the layer takes; nothing was computed or changed.</exception>
    public Tensor forward(Tensor x, TokenInfo? info) => SegmentStreamer.Current is { } stream && stream.Holds(this)
        ? stream.Advance(this, x, info)
        : Run(null, x, info, StateUse.None).Output;

    /// <summary>Attends x, continuing from a state, and returns the state after it. The given state stays valid.</summary>
    /// <param name="state">A state of this layer, or of one with the same options; null for an empty one.</param>
    /// <param name="x">(B, T, D)</param>
    /// <param name="info">What is known of each token.</param>
    /// <returns>The output, (B, T, D), and the state after x, to be disposed of by the caller.</returns>
    /// <exception cref="ArgumentException">An argument has another shape, type or device than the layer takes; nothing was computed or changed.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public (Tensor Output, MemoryState State) ForwardFrom(MemoryState? state, Tensor x, TokenInfo? info = null)
    {
        var (output, after) = Run(state, x, info, StateUse.Return);
        return (output, after!);
    }

    /// <summary>Whether the projections are the layer's own parameters.</summary>
    internal bool OwnsProjections => q_proj is not null;

    internal (Tensor Output, MemoryState? State) Run(MemoryState? state, Tensor x, TokenInfo? info, StateUse use, SegmentObserver? tell = null)
    {
        Check(state, x, info);
        using var scope = NewDisposeScope();
        var tokens = x.size(1);
        var memory = state is null ? EmptyMemoryOf(x) : new LayerMemory(state.Memory, state.Normalizer, state.Open, state.Position);
        var stretches = Stretches(memory.Position, tokens, BlockSize.Segments(Options, x));
        HostHeap.KeepTemporaries();

        // Split, not narrowed: its gradient is one concatenation, where that of every narrow is as long as x.
        var pieces = stretches.Count == 1 ? [x] : x.split(stretches.Select(stretch => stretch.Length).ToArray(), 1);
        var outputs = new BlockOutputs(tokens);
        var start = 0L;
        for (var i = 0; i < pieces.Length; i++)
        {
            var (length, segments) = stretches[i];
            var marks = length == tokens ? info : info?.Narrow(start, length);
            outputs.Add(start, Attend(pieces[i], marks, segments, ref memory, use, length == tokens, isLast: i == pieces.Length - 1, tell));
            start += length;
        }

        return (outputs.Join().MoveToOuterDisposeScope(), use == StateUse.None ? null : memory.ToState(state, use));
    }

    /// <summary>
    /// What tokens from a position on go through at once: first the rest of an open segment, then whole segments, as many as a
    /// block holds, last the beginning of one. And in how many segments they lie.
    /// </summary>
    private List<(long Length, long Segments)> Stretches(long position, long tokens, long blockSegments)
    {
        var n = Options.SegmentLength;
        var stretches = new List<(long Length, long Segments)>();
        for (var end = position + tokens; position < end; position += stretches[^1].Length)
        {
            var open = position % n;
            var segments = open == 0 ? Math.Clamp((end - position) / n, 1, blockSegments) : 1;
            stretches.Add((Math.Min((segments * n) - open, end - position), segments));
        }

        return stretches;
    }

    /// <summary>The layer as in the paper, for tokens of whole segments or of (a part of) one.</summary>
    private Tensor Attend(
        Tensor x, TokenInfo? info, long segments, ref LayerMemory memory, StateUse use, bool isWholeCall, bool isLast, SegmentObserver? tell)
    {
        using var scope = NewDisposeScope();
        var stateType = memory.M.dtype;
        var n = x.size(1) / segments;
        var offset = memory.Position % Options.SegmentLength;

        var (keyHeads, queriesPerKey) = (Options.KeyValueHeads, Options.QueriesPerKey);
        x = WithFinitePadding(x, info?.KeyPaddingMask);
        var q = Heads(projections.Query, x, segments, keyHeads, queriesPerKey);    // (B, S, G, R, n, K)
        var k = Heads(projections.Key, x, segments, keyHeads);                     // (B, S, G, n, K)
        var v = Heads(projections.Value, x, segments, keyHeads);                   // (B, S, G, n, V)
        var (localQ, localK) = rotary is null ? (q, k) : (rotary.Rotate(q, offset), rotary.Rotate(k, offset));
        var tokens = memory.With(new(k, localK, v, SegmentMarks.From(info, segments, stateType)), Options.SegmentLength, use);

        // Equation 6: A_dot = softmax(Q K^T / sqrt(K)) V
        var attended = As(LocalAttention.Attend(localQ, tokens.LocalKeys, tokens.Values, tokens.Marks, training ? Options.Dropout : 0), stateType);

        // Equations 8 and 9: what is in the memory before each segment, and after the last
        var isWhole = tokens.Length == Options.SegmentLength;
        var isNeeded = segments > 1 || use != StateUse.None || !isLast;
        SegmentMemories? scanned = isWhole && isNeeded
            ? CompressiveMemory.Scan(Options, memory.M, memory.Z, tokens.Keys, tokens.Values, tokens.Marks)
            : null;
        if (scanned is { } memories)
        {
            tell?.Invoke(this, tokens, memories, memory.Position);
        }

        // Equations 7 and 10: A_mem = sigma(Q) M / (sigma(Q) z), A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot
        Tensor mixed;
        if (segments == 1 && memory.Position < Options.SegmentLength && (!is_grad_enabled() || !isWholeCall))
        {
            // No segment was written yet. Only a call that goes no further must have the gate in its graph all the same.
            mixed = WithEmptyMemory(attended);
        }
        else if (tokens.Marks.Documents is null && HostRetrieval.Takes(q, memory.M, memory.Z))
        {
            mixed = HostRetrieval.Mix(q, memory.M, memory.Z, gate, Options.EmptyMemory, attended);
        }
        else
        {
            var retrieved = CompressiveMemory.Retrieve(q, scanned?.Before ?? memory.M.unsqueeze(1), scanned?.NormalizerBefore ?? memory.Z.unsqueeze(1));
            mixed = Mix(attended, retrieved, tokens.Marks.SeesMemory(n));
        }

        var output = projections.Output(Merge(As(mixed, x.dtype)));
        memory = memory.After(tokens, scanned, n * segments, isWhole, use, isWholeCall);
        return output.MoveToOuterDisposeScope();
    }

    /// <summary>Equation 10. A query that finds nothing in memory takes A_dot alone, or counts A_mem as 0, as the options say.</summary>
    /// <param name="attended">A_dot, (B, S, G, R, n, V)</param>
    /// <param name="retrieved">sigma(Q) M, (B, S, G, R, n, V), and sigma(Q) z, (B, S, G, R, n, 1)</param>
    /// <param name="seesMemory">(B, S, n) bool: false after a document start; null for all true.</param>
    private Tensor Mix(Tensor attended, (Tensor Numerator, Tensor Denominator) retrieved, Tensor? seesMemory)
    {
        using var scope = NewDisposeScope();
        var (numerator, denominator) = retrieved;
        var found = denominator > Scalars.Zero;
        if (seesMemory is not null)
        {
            found &= seesMemory.view(seesMemory.shape[0], seesMemory.shape[1], 1, 1, -1, 1);
        }

        var share = GateShare(attended.dtype);                                     // (G, R, 1, 1)
        var foundShare = share * found.to(attended.dtype);
        var localShare = Scalars.One - (Options.EmptyMemory == EmptyMemory.LocalOnly ? foundShare : share);
        var local = is_grad_enabled() ? attended * localShare : attended.mul_(localShare);
        return local.addcmul_(numerator, foundShare / denominator.masked_fill(~found, Scalars.One), Scalars.One).MoveToOuterDisposeScope();
    }

    private Tensor WithEmptyMemory(Tensor attended) => Options.EmptyMemory == EmptyMemory.LocalOnly
        ? attended
        : attended * (Scalars.One - GateShare(attended.dtype));

    /// <summary>sigmoid(beta), (G, R, 1, 1).</summary>
    private Tensor GateShare(ScalarType type) => As(gate, type).sigmoid().view(Options.KeyValueHeads, Options.QueriesPerKey, 1, 1);

    /// <summary>
    /// x (B, T, D) with 0 for padding (B, T) that is not finite, or so large that scores would not be: 0 times NaN would be NaN
    /// wherever padding counts 0 times.
    /// </summary>
    private static Tensor WithFinitePadding(Tensor x, Tensor? padding)
    {
        if (padding is null)
        {
            return x;
        }

        using var scope = NewDisposeScope();
        var isSpoilt = padding & ~x.detach().norm(-1).isfinite();
        return x.masked_fill(isSpoilt.unsqueeze(-1), Scalars.Zero).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// The heads of x (B, S*n, D): a view of the projection, no copy. (B, S, G, R, n, W) for <paramref name="heads"/> G and R,
    /// (B, S, G, n, W) for G alone.
    /// </summary>
    private static Tensor Heads(Func<Tensor, Tensor> projection, Tensor x, long segments, params long[] heads)
    {
        using var projected = projection(x);
        var (batch, n) = (x.size(0), x.size(1) / segments);
        if (n == 1)
        {
            return projected.view([batch, segments, .. heads, 1, -1]);
        }

        using var tokens = projected.view([batch, segments, n, .. heads, -1]);
        return heads.Length == 1 ? tokens.transpose(2, 3) : tokens.permute(0, 1, 3, 4, 2, 5);
    }

    /// <summary>(B, S, G, R, n, V) -> (B, S*n, H*V): a view where fused attention left the heads of a token side by side.</summary>
    private static Tensor Merge(Tensor heads)
    {
        var (batch, segments, _, _, n, _) = Describe.SixDimensions(heads);
        return (n == 1 ? heads : heads.permute(0, 1, 4, 2, 3, 5)).reshape(batch, segments * n, -1);
    }

    private static Tensor As(Tensor tensor, ScalarType type) => CompressiveMemory.As(tensor, type);

    private LayerMemory EmptyMemoryOf(Tensor x)
    {
        var (batch, type) = (x.size(0), MemoryState.TypeFor(x.dtype));
        return new(
            zeros([batch, Options.KeyValueHeads, Options.KeyWidth, Options.ValueWidth], type, x.device),
            zeros([batch, Options.KeyValueHeads, Options.KeyWidth], type, x.device),
            null, 0);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            q_proj?.Dispose();
            k_proj?.Dispose();
            v_proj?.Dispose();
            o_proj?.Dispose();
            gate.Dispose();
            rotary?.Dispose();
        }

        base.Dispose(disposing);
    }
}
