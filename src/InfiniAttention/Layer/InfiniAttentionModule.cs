using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The Infini-attention layer (Munkhdalai, Faruqui, Gopal, arXiv 2404.07143): causal attention inside segments of N tokens,
/// a compressive memory of all earlier segments, and a learned gate that mixes the two for each head.
/// </summary>
/// <remarks>
/// B batch, T tokens, D model width, H query heads, G key/value heads, R = H/G query heads of each, K key width, V value
/// width, N segment length, S segments. Parameters are <c>q_proj</c>, <c>k_proj</c>, <c>v_proj</c>, <c>o_proj</c> and <c>gate</c>,
/// and, if the options say so, <c>q_norm</c> and <c>k_norm</c>, and <c>memory_norm</c>, <c>memory_q_proj</c> and <c>memory_k_proj</c>.
/// M and z are float32 whatever the layer's type, float64 in a float64 layer. In evaluation any number of threads may share a layer.
/// </remarks>
public sealed partial class InfiniAttentionModule : nn.Module<Tensor, Tensor>, nn.IModule<Tensor, TokenInfo?, Tensor>
{
    private readonly nn.Module<Tensor, Tensor>? q_proj;
    private readonly nn.Module<Tensor, Tensor>? k_proj;
    private readonly nn.Module<Tensor, Tensor>? v_proj;
    private readonly nn.Module<Tensor, Tensor>? o_proj;
    private readonly Parameter gate;
    private readonly Linear? memory_q_proj;
    private readonly Linear? memory_k_proj;
    private readonly MemoryNorm? memory_norm;
    private readonly HeadNorm? q_norm;
    private readonly HeadNorm? k_norm;
    private readonly Projections projections;
    private readonly RotaryEmbedding? rotary;
    private readonly Scalar normEpsilon;
    private readonly SegmentAttention attention;

    /// <summary>Creates the layer with TorchSharp's default initialisation of its projections.</summary>
    /// <param name="options">Shape and rules.</param>
    /// <param name="device">The device on which the parameters are created; default: TorchSharp's default device.</param>
    /// <param name="dtype">float32, float64, bfloat16 or float16; default: TorchSharp's default type.</param>
    /// <exception cref="ArgumentException">The options do not describe a layer, or the type is not floating point; the message says what is allowed.</exception>
    public InfiniAttentionModule(InfiniAttentionOptions options, Device? device = null, ScalarType? dtype = null)
        : this(options, OwnProjections(options, device, dtype), device, dtype)
    {
    }

    /// <summary>
    /// Creates the layer with the given projections: with adapters (LoRA), quantised, or shared. They become the layer's
    /// <c>q_proj</c>, <c>k_proj</c>, <c>v_proj</c> and <c>o_proj</c>, so their entries in <c>state_dict</c> are <c>q_proj.…</c> and so on,
    /// and they are disposed of with it.
    /// </summary>
    /// <param name="options">Shape and rules. Whether there are biases is up to the projections, not to <c>Bias</c> and its kin.</param>
    /// <param name="q_proj">(B, T, D) -> (B, T, H*K)</param>
    /// <param name="k_proj">(B, T, D) -> (B, T, G*K)</param>
    /// <param name="v_proj">(B, T, D) -> (B, T, G*V)</param>
    /// <param name="o_proj">(B, T, H*V) -> (B, T, D)</param>
    /// <param name="device">The device of the gate, and of all inputs; default: TorchSharp's default device.</param>
    /// <param name="dtype">The type of the gate, and of all inputs; default: TorchSharp's default type.</param>
    /// <exception cref="ArgumentException">The options do not describe a layer, or the type is not floating point; the message says what is allowed.</exception>
    public InfiniAttentionModule(
        InfiniAttentionOptions options,
        nn.Module<Tensor, Tensor> q_proj, nn.Module<Tensor, Tensor> k_proj, nn.Module<Tensor, Tensor> v_proj, nn.Module<Tensor, Tensor> o_proj,
        Device? device = null, ScalarType? dtype = null)
        : this(options, Projections.Of(q_proj, k_proj, v_proj, o_proj), device, dtype)
    {
    }

    internal InfiniAttentionModule(InfiniAttentionOptions options, Projections projections, Device? device, ScalarType? dtype)
        : base(nameof(InfiniAttentionModule))
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        Options = options;
        this.projections = projections;
        (q_proj, k_proj, v_proj, o_proj) = (projections.Modules?.Query, projections.Modules?.Key, projections.Modules?.Value, projections.Modules?.Output);
        var type = CheckedType(dtype);
        gate = Parameters.Own(zeros([options.NumHeads], type, device));
        memory_norm = options.MemoryNorm ? new MemoryNorm(options.NumHeads, options.KeyValueHeads, options.ValueWidth, type, device) : null;
        (q_norm, k_norm) = options.QueryKeyNorm ? (new HeadNorm(options.KeyWidth, type, device), new HeadNorm(options.KeyWidth, type, device)) : (null, null);
        normEpsilon = options.QueryKeyNormEpsilon;
        if (options.OwnMemoryProjections)
        {
            memory_q_proj = nn.Linear(options.EmbedDim, options.NumHeads * options.KeyWidth, hasBias: false, device, type);
            memory_k_proj = nn.Linear(options.EmbedDim, options.KeyValueHeads * options.KeyWidth, hasBias: false, device, type);
        }

        ResetMemoryParameters();
        rotary = options.Rotary is { } rotaryOptions
            ? new RotaryEmbedding(rotaryOptions, options.RotaryWidth, (1 - options.LocalSegments) * options.SegmentLength, options.SegmentLength)
            : null;
        attention = new SegmentAttention(options);
        RegisterComponents();
    }

    /// <summary>The options that the layer was created with.</summary>
    public InfiniAttentionOptions Options { get; }

    /// <summary>beta of each head, (H). The memory's share of a head's output is sigmoid(beta), equation 10.</summary>
    public Parameter Gate => gate;

    /// <summary>The norms on the memory's path; null for none.</summary>
    internal MemoryNorm? MemoryNorm => memory_norm;

    /// <summary>Attends x from an empty memory, or continues the stream of the active <see cref="SegmentStreamer"/>.</summary>
    /// <param name="x">(B, T, D)</param>
    /// <returns>(B, T, D)</returns>
    /// <exception cref="ArgumentException">x does not have the shape, type or device of the layer's inputs; nothing was computed or changed.</exception>
    public override Tensor forward(Tensor x) => forward(x, null);

    /// <summary>Attends x from an empty memory, or continues the stream of the active <see cref="SegmentStreamer"/>.</summary>
    /// <param name="x">(B, T, D)</param>
    /// <param name="info">What is known about each token; null: the info of the active streamer, if any.</param>
    /// <returns>(B, T, D)</returns>
    /// <exception cref="ArgumentException">x or info does not have the shape, type or device that the layer needs; nothing was computed or changed.</exception>
    public Tensor forward(Tensor x, TokenInfo? info)
    {
        if (StreamSlot.Of(this) is not { } slot)
        {
            return Run(null, x, info, CallUse.Output).Output;
        }

        var before = slot.Enter(this);
        MemoryState? after = null;
        try
        {
            (var output, after) = Run(before, x, info ?? slot.Info, new(true, slot.Observer, slot.Stretch));
            return output;
        }
        finally
        {
            slot.Exit(this, after);
        }
    }

    /// <summary>Calls <see cref="forward(Tensor, TokenInfo?)"/> with the hooks that are registered for <c>call(x)</c>.</summary>
    /// <inheritdoc cref="forward(Tensor, TokenInfo?)"/>
    public Tensor call(Tensor x, TokenInfo? info)
    {
        foreach (var hook in module_pre_hooks.Values)
        {
            hook(this);
        }

        foreach (var hook in pre_hooks.Values)
        {
            x = hook(this, x) ?? x;
        }

        var output = forward(x, info);
        foreach (var hook in post_hooks.Values)
        {
            output = hook(this, x, output) ?? output;
        }

        foreach (var hook in module_post_hooks.Values)
        {
            hook(this);
        }

        return output;
    }

    /// <summary>Attends x, continuing from a state, and returns the state after it. The given state stays valid.</summary>
    /// <param name="state">A state of this layer, or of one with the same options; null for an empty one.</param>
    /// <param name="x">(B, T, D)</param>
    /// <param name="info">What is known about each token.</param>
    /// <returns>The output, (B, T, D), and the state after x, to be disposed of by the caller.</returns>
    /// <exception cref="ArgumentException">An argument does not have the shape, type or device that the layer needs; nothing was computed or changed.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public (Tensor Output, MemoryState State) ForwardFrom(MemoryState? state, Tensor x, TokenInfo? info = null)
    {
        var (output, after) = Run(state, x, info, CallUse.OutputAndState);
        return (output, after!);
    }

    /// <summary>
    /// Initialises the projections as <c>nn.Linear</c> does, the norms of queries and keys at 1, the gates as the options say, and the memory's other parameters: its own
    /// projections from N(0, 1/D), the scales of its norms at 6 and their weights at 1. Projections that were given stay unchanged.
    /// </summary>
    public void reset_parameters()
    {
        projections.Reset();
        q_norm?.Reset();
        k_norm?.Reset();
        ResetMemoryParameters();
    }

    private void ResetMemoryParameters()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var beta = tensor(Options.GateInitPerHead?.ToArray() ?? Enumerable.Repeat(Options.GateInit, (int)Options.NumHeads).ToArray(), ScalarType.Float64, CPU);
        gate.copy_(beta);
        memory_norm?.Reset();
        foreach (var projection in new[] { memory_q_proj, memory_k_proj }.OfType<Linear>())
        {
            nn.init.normal_(projection.weight, 0, 1 / Math.Sqrt(Options.EmbedDim));
        }
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
            q_norm?.Dispose();
            k_norm?.Dispose();
            gate.Dispose();
            memory_q_proj?.Dispose();
            memory_k_proj?.Dispose();
            memory_norm?.Dispose();
            rotary?.Dispose();
        }

        base.Dispose(disposing);
    }

    private static Projections OwnProjections(InfiniAttentionOptions options, Device? device, ScalarType? dtype)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Validate();
        var type = CheckedType(dtype);
        return Projections.Own(
            Linear(options.EmbedDim, options.NumHeads * options.KeyWidth, options.Biases.Query),
            Linear(options.EmbedDim, options.KeyValueHeads * options.KeyWidth, options.Biases.Key),
            Linear(options.EmbedDim, options.KeyValueHeads * options.ValueWidth, options.Biases.Value),
            Linear(options.NumHeads * options.ValueWidth, options.EmbedDim, options.Biases.Output));

        Linear Linear(long inputs, long outputs, bool hasBias) => nn.Linear(inputs, outputs, hasBias, device, type);
    }

    private static ScalarType CheckedType(ScalarType? dtype)
    {
        var type = dtype ?? get_default_dtype();
        return Describe.IsFloating(type) ? type : throw new ArgumentException($"dtype is {type}; it must be Float32, Float64, BFloat16 or Float16.", nameof(dtype));
    }
}
