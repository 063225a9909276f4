using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// One endless stream (a batch of rows) through one model: feed any number of tokens at a time; the result does not depend
/// on how the stream is cut, and its memory does not grow with its length.
/// </summary>
/// <remarks>
/// The model is any module that contains <see cref="InfiniAttentionModule"/>s at any depth. It is not changed and holds nothing
/// of the stream, so any number of streams, on any number of threads, share one model in evaluation; one stream is used by
/// one thread at a time. With gradients on, the graph runs on through the state until <see cref="Detach"/>. A call that
/// throws leaves the stream as it was. Inputs are (B, T) or (B, T, …): rows first, tokens second.
/// </remarks>
public sealed partial class SegmentStreamer : IDisposable
{
    private readonly nn.Module model;
    private readonly StreamStates states;
    private readonly StreamSharing? sharing;
    private long windowTokens;

    /// <summary>Starts a stream with an empty memory.</summary>
    /// <param name="model">The model, which still belongs to the caller.</param>
    /// <exception cref="ArgumentException">The model holds no <see cref="InfiniAttentionModule"/>.</exception>
    public SegmentStreamer(nn.Module model)
    {
        this.model = model;
        var layers = ModelLayers.Of(model);
        states = new StreamStates(this, layers);
        windowTokens = BlockSize.Window([.. layers.Select(entry => entry.Layer.Options.SegmentLength)], Device);
    }

    /// <summary>
    /// Starts a stream that the processes of a group read together. Every rank makes the same calls with the same input; each computes a stretch of
    /// each step of up to <see cref="ISequenceGroup.Size"/> windows, and afterwards all have the same state, the same outputs and, after
    /// <see cref="Backpropagate"/>, the same gradients. Tokens that do not make a segment for each rank are read by all. The state of all layers
    /// together must be smaller than 2 GiB, because it is handed over as one saved stream.
    /// </summary>
    /// <param name="model">The model, with the same weights on every rank; it still belongs to the caller.</param>
    /// <param name="group">The group.</param>
    /// <exception cref="ArgumentException">The model holds no <see cref="InfiniAttentionModule"/>.</exception>
    public SegmentStreamer(nn.Module model, ISequenceGroup group)
        : this(model)
    {
        ArgumentNullException.ThrowIfNull(group);
        sharing = new StreamSharing(group, [.. states.Layers.Select(entry => entry.Layer.Options.SegmentLength)]);
    }

    private SegmentStreamer(nn.Module model, StreamSharing? sharing)
        : this(model)
    {
        this.sharing = sharing;
    }

    /// <summary>
    /// Tokens of each row that go through the model at once. It bounds temporary memory and changes no result; a multiple of
    /// the segment length is fastest. In half precision <see cref="Forward"/> and <see cref="Prefill"/> with gradients take the whole input at once, so that
    /// gradients are summed in float32. Default: as many whole segments as fit into 4096 tokens on a CPU and 65536 on a GPU, at least one; if the
    /// layers' lengths differ, that many tokens, and at least the longest segment.
    /// </summary>
    /// <exception cref="ArgumentOutOfRangeException">The value is less than 1.</exception>
    public long WindowTokens
    {
        get => windowTokens;
        set
        {
            if (value < 1)
            {
                throw new ArgumentOutOfRangeException(nameof(value), value, $"WindowTokens is {value}; it must be at least 1.");
            }

            windowTokens = value;
        }
    }

    /// <summary>Tokens of each row read so far. During a call of the streamer it is the position of the call's (window's) first token, in every layer.</summary>
    public long Position => states.Position + (StreamSlot.Active is Activation { Stretch: { } stretch } active && active.Streamer == this ? stretch.Offset : 0);

    /// <summary>Bytes that the stream holds: the states of all layers.</summary>
    public long StateBytes => states.Bytes;

    /// <summary>The streamer whose call or activation runs here, for a model that needs its stream's <see cref="Position"/>; null outside any call.</summary>
    public static SegmentStreamer? Current => (StreamSlot.Active as Activation)?.Streamer;

    /// <summary>
    /// Raised for every segment after it is written to a layer's memory, on the thread of the call; without listeners it costs
    /// nothing. If the call then fails, its segments are undone; <see cref="Backpropagate"/> does not raise it.
    /// </summary>
    public event Action<SegmentReport>? SegmentWritten;

    internal StreamStates States => states;

    /// <summary>How a group shares the stream; null if it is read by this process alone.</summary>
    internal StreamSharing? Sharing => sharing;

    private Device Device => states.Layers[0].Layer.Gate.device;

    /// <summary>
    /// Makes this the stream that the model's Infini-attention layers continue when they are called on this thread, until the
    /// returned object is disposed of, on the same thread: for models whose forward is not <c>Tensor -&gt; Tensor</c>. Each call of the
    /// model inside must run every layer once.
    /// </summary>
    /// <param name="info">What is known about each token of the calls inside, (B, T) each.</param>
    /// <exception cref="InvalidOperationException">Another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public IDisposable Activate(TokenInfo? info = null)
    {
        CheckUsable();
        return new Activation(states, info, isCall: false);
    }

    /// <summary>Continues the stream and returns all outputs.</summary>
    /// <param name="input">(B, T, …), T at least 1.</param>
    /// <param name="info">What is known about each token, for every layer. Null: the info of an activation around the call, if any.</param>
    /// <returns>The model's output for every token, (B, T, …).</returns>
    /// <exception cref="ArgumentException">The input is empty, on another device than the model, or does not have the stream's batch size; or info does not fit it.</exception>
    /// <exception cref="InvalidOperationException">The model is not a <c>Module&lt;Tensor, Tensor&gt;</c>, or another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public Tensor Forward(Tensor input, TokenInfo? info = null)
    {
        CheckReading(input, ref info);
        using var transaction = states.Begin();
        using var scope = NewDisposeScope();
        var tokens = input.size(1);
        var windows = new List<Tensor>();
        for (long start = 0, length; start < tokens; start += length)
        {
            length = NextWindowOfGraph(Position, tokens - start);
            using var window = NewDisposeScope();
            windows.Add(RunWhole(input, info, (start, length)).MoveToOuterDisposeScope());
        }

        transaction.Complete();
        return (windows.Count == 1 ? windows[0] : cat(windows, 1)).MoveToOuterDisposeScope();
    }

    /// <summary>Continues the stream window by window and returns only each row's last output: with a padding mask, that of its last token that is not padding.</summary>
    /// <param name="input">(B, T, …), T at least 1.</param>
    /// <param name="info">What is known about each token, for every layer. Null: the info of an activation around the call, if any.</param>
    /// <param name="progress">Gets, after each window, the number of the T tokens that were read.</param>
    /// <param name="cancellationToken">Cancels between windows; the stream is then as it was.</param>
    /// <returns>The model's output for each row's last token, (B, 1, …); for a row of padding only, the input's last token.</returns>
    /// <exception cref="ArgumentException">The input is empty, on another device than the model, or does not have the stream's batch size; or info does not fit it.</exception>
    /// <exception cref="InvalidOperationException">The model is not a <c>Module&lt;Tensor, Tensor&gt;</c>, or another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    /// <exception cref="OperationCanceledException">The call was cancelled.</exception>
    public Tensor Prefill(Tensor input, TokenInfo? info = null, IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        CheckReading(input, ref info);
        using var transaction = states.Begin();
        using var scope = NewDisposeScope();
        var tokens = input.size(1);
        var last = new LastOutputs(input, info?.KeyPaddingMask);
        for (long start = 0, length; start < tokens; start += length)
        {
            ThrowIfCancelled(cancellationToken);
            length = NextWindowOfGraph(Position, tokens - start);
            using var window = NewDisposeScope();
            var part = PartOf((start, length));
            last.Add(RunPart(input, info, part), part.Start, part.IsMine);
            progress?.Report(start + length);
        }

        transaction.Complete();
        return (sharing?.Joined(last) ?? last.Join()).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Continues the stream lazily, window by window, with the gradient mode at the time of the call. Abandoning the
    /// enumeration leaves the stream after the last window that was returned.
    /// </summary>
    /// <param name="input">(B, T, …), T at least 1; it must stay alive until the enumeration ends.</param>
    /// <param name="info">What is known about each token, for every layer. Null: the info of an activation around the call, if any.</param>
    /// <param name="progress">Gets, after each window, the number of the T tokens that were read.</param>
    /// <param name="cancellationToken">Cancels between windows; the stream is then after the last window that was returned.</param>
    /// <returns>The model's outputs, (B, window, …) each, to be disposed of by the caller or the caller's dispose scope; they can be enumerated once.</returns>
    /// <exception cref="ArgumentException">The input is empty, on another device than the model, or does not have the stream's batch size; or info does not fit it.</exception>
    /// <exception cref="InvalidOperationException">
    /// The model is not a <c>Module&lt;Tensor, Tensor&gt;</c>, another stream is active on this thread, or the windows are enumerated a second time.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    /// <exception cref="OperationCanceledException">The call was cancelled.</exception>
    public IEnumerable<Tensor> Stream(Tensor input, TokenInfo? info = null, IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        CheckReading(input, ref info);
        return new Once<Tensor>(Windows(input, info, progress, (is_grad_enabled(), is_inference_mode_enabled()), cancellationToken));
    }

    /// <summary>
    /// Adds the exact gradient of the loss over the whole input to the parameters' gradients, holding the graph of one window:
    /// a first pass without a graph keeps the states at the windows' boundaries, a second goes backwards window by window. It equals the
    /// ordinary gradient to rounding; sums over windows are kept in at least float32. Afterwards the stream is at the input's end, detached.
    /// </summary>
    /// <param name="input">(B, T, …), T at least 1.</param>
    /// <param name="target">(B, T, …): what the loss compares the outputs with.</param>
    /// <param name="loss">
    /// Gives one number for each token, (B, window), from the outputs and the targets of a window; with <see cref="LossReduction.Sum"/> it may
    /// also give their sum, a scalar. Parameters that it uses get a gradient only if they belong to the model, so put an output head into the model.
    /// It may not change the stream.
    /// </param>
    /// <param name="reduction">How the numbers become the loss; the mean is over the whole input, whatever the windows.</param>
    /// <param name="ignoreIndex">The value of integer targets that do not count; their losses are left out.</param>
    /// <param name="info">What is known about each token, for every layer. Null: the info of an activation around the call, if any.</param>
    /// <param name="progress">Gets, after each window of either pass, the number of the T tokens that are done; each pass counts half.</param>
    /// <param name="cancellationToken">Cancels between windows; gradients, stream and random state are then as they were.</param>
    /// <returns>The loss and the number of targets that count.</returns>
    /// <remarks>
    /// Dropout masks are the same in both passes. If the loss function throws, gradients, stream and random state are as before, except that
    /// the CUDA generators, whose state cannot be read, are reseeded from the CPU's if the model is in training mode on CUDA.
    /// </remarks>
    /// <exception cref="ArgumentException">An argument is empty, is on another device, has a shape that does not fit, or requires a gradient that would be lost; or no target counts.</exception>
    /// <exception cref="InvalidOperationException">
    /// The model is not a <c>Module&lt;Tensor, Tensor&gt;</c>, the losses have another shape, inference mode is on, or another stream is active on
    /// this thread.
    /// </exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    /// <exception cref="OperationCanceledException">The call was cancelled.</exception>
    public BackpropagationResult Backpropagate(
        Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, LossReduction reduction = LossReduction.Mean, long ignoreIndex = -100,
        TokenInfo? info = null, IProgress<long>? progress = null, CancellationToken cancellationToken = default)
    {
        TokenLosses? losses = null;
        Agree(input, ref info, given =>
        {
            if (is_inference_mode_enabled())
            {
                throw new InvalidOperationException("Backpropagate was called in inference mode, which has no gradients: call it outside inference mode.");
            }

            losses = new TokenLosses(input, target, loss, reduction, ignoreIndex);
            if (input.requires_grad || given?.WriteWeights?.requires_grad == true || target.requires_grad)
            {
                throw new ArgumentException(
                    "The input, its write weights or the target require a gradient; Backpropagate computes gradients of the model's parameters only: detach them.",
                    target.requires_grad ? nameof(target) : nameof(input));
            }
        }, () => [Agreement.Fingerprint(target), (double)reduction, ignoreIndex]);
        using var transaction = states.Begin();
        var total = new WindowedBackpropagation(this, model, losses!) { Progress = progress, Cancellation = cancellationToken }.Run(input, info);
        transaction.Complete();
        return new(total, losses!.Count);
    }

    /// <summary>Frees the states. The model stays as it is.</summary>
    public void Dispose() => states.Dispose();
}
