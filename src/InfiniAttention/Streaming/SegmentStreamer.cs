using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// One endless stream (a batch of rows) through one model: feed any number of tokens at a time, the result does not depend
/// on how the stream was cut, and memory does not depend on its length.
/// </summary>
/// <remarks>
/// The model is any module that holds <see cref="InfiniAttentionModule"/>s, however deep. It is not changed and holds nothing
/// of the stream, so any number of streams, on any number of threads, share one model in evaluation; one stream is used by
/// one thread at a time. With gradients on, the graph runs on through the state until <see cref="Detach"/>. A call that
/// throws leaves the stream as it was. Inputs are (B, T) or (B, T, …): rows first, tokens second.
/// </remarks>
public sealed partial class SegmentStreamer : IDisposable
{
    private readonly nn.Module model;
    private readonly LayerStates states;
    private readonly long segmentTokens;
    private long windowTokens;
    private bool disposed;

    /// <summary>Starts a stream with an empty memory.</summary>
    /// <param name="model">The model; it stays the caller's.</param>
    /// <exception cref="ArgumentException">The model holds no <see cref="InfiniAttentionModule"/>.</exception>
    public SegmentStreamer(nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        this.model = model;
        var layers = model.named_modules().Prepend((name: "", module: model))
            .Where(entry => entry.module is InfiniAttentionModule)
            .Select(entry => (entry.name, (InfiniAttentionModule)entry.module))
            .DistinctBy(entry => entry.Item2).ToArray();
        if (layers.Length == 0)
        {
            throw new ArgumentException($"The model, a {model.GetType().Name}, holds no InfiniAttentionModule; a stream needs at least one.", nameof(model));
        }

        states = new LayerStates(layers);
        segmentTokens = layers.Select(entry => entry.Item2.Options.SegmentLength).Aggregate(BlockSize.LeastCommonMultiple);
        windowTokens = BlockSize.Window(segmentTokens, Device);
    }

    /// <summary>
    /// Tokens of each row that go through the model at once: bounds temporary memory and changes no result. A multiple of the
    /// segment length (of every layer's, where they differ). Default: as many as fit into 4096 on a CPU and 65536 on a GPU, at
    /// least one segment.
    /// </summary>
    /// <exception cref="ArgumentException">The value is not a positive multiple of the segment length.</exception>
    public long WindowTokens
    {
        get => windowTokens;
        set
        {
            if (value < 1 || value % segmentTokens != 0)
            {
                throw new ArgumentException($"WindowTokens is {value}; it must be a positive multiple of the segment length, {segmentTokens}.", nameof(value));
            }

            windowTokens = value;
        }
    }

    /// <summary>Tokens of each row consumed so far.</summary>
    public long Position => states.Position;

    /// <summary>Bytes that the stream holds: the states of all layers.</summary>
    public long StateBytes => states.Bytes;

    internal LayerStates States => states;

    private Device Device => states.Layers[0].Layer.Gate.device;

    /// <summary>Continues the stream and returns all outputs.</summary>
    /// <param name="input">(B, T, …), T at least 1.</param>
    /// <param name="info">What is known of each token; reaches every layer. Null: what an activation around the call says, or nothing.</param>
    /// <returns>The model's output for every token, (B, T, …).</returns>
    /// <exception cref="ArgumentException">The input is empty, on another device than the model, or of another batch size than the stream; or info does not fit it.</exception>
    /// <exception cref="InvalidOperationException">The model is no <c>Module&lt;Tensor, Tensor&gt;</c>, or another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public Tensor Forward(Tensor input, TokenInfo? info = null)
    {
        CheckInput(input, ref info);
        return states.Atomically(() =>
        {
            if (NextWindow(input.size(1)) == input.size(1))
            {
                return RunWindow(input, info, 0, input.size(1));
            }

            using var scope = NewDisposeScope();
            return cat([.. RunWindows(input, info, null)], 1).MoveToOuterDisposeScope();
        });
    }

    /// <summary>Continues the stream window by window and returns only the last token's output.</summary>
    /// <param name="input">(B, T, …), T at least 1.</param>
    /// <param name="info">What is known of each token; reaches every layer. Null: what an activation around the call says, or nothing.</param>
    /// <param name="progress">Is told, after each window, how many of the T tokens were read.</param>
    /// <returns>The model's output for the last token, (B, 1, …).</returns>
    /// <exception cref="ArgumentException">The input is empty, on another device than the model, or of another batch size than the stream; or info does not fit it.</exception>
    /// <exception cref="InvalidOperationException">The model is no <c>Module&lt;Tensor, Tensor&gt;</c>, or another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public Tensor Prefill(Tensor input, TokenInfo? info = null, IProgress<long>? progress = null)
    {
        CheckInput(input, ref info);
        return states.Atomically(() =>
        {
            using var scope = NewDisposeScope();
            Tensor? last = null;
            foreach (var output in RunWindows(input, info, progress))
            {
                last?.Dispose();
                last = output.narrow(1, output.size(1) - 1, 1).clone();
                output.Dispose();
            }

            return last!.MoveToOuterDisposeScope();
        });
    }

    /// <summary>
    /// Continues the stream lazily, window by window. Abandoning the enumeration half-way leaves the stream after the last
    /// window that was returned.
    /// </summary>
    /// <param name="input">(B, T, …), T at least 1; it must stay alive until the enumeration ends.</param>
    /// <param name="info">What is known of each token; reaches every layer. Null: what an activation around the call says, or nothing.</param>
    /// <param name="progress">Is told, after each window, how many of the T tokens were read.</param>
    /// <returns>The model's outputs, (B, window, …) each, to be disposed of by the caller or the caller's dispose scope.</returns>
    /// <exception cref="ArgumentException">The input is empty, on another device than the model, or of another batch size than the stream; or info does not fit it.</exception>
    /// <exception cref="InvalidOperationException">The model is no <c>Module&lt;Tensor, Tensor&gt;</c>, or another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public IEnumerable<Tensor> Stream(Tensor input, TokenInfo? info = null, IProgress<long>? progress = null)
    {
        CheckInput(input, ref info);
        return RunWindows(input, info, progress, areAtomic: true);
    }

    /// <summary>
    /// Adds the exact gradient of the summed loss over the whole input to the parameters' gradients, holding the graph of one
    /// window at a time: forward without a graph keeping the states at window boundaries, then from the last window to the
    /// first recompute, back-propagate the window's loss and the gradient of its final state, and hand the gradient of its
    /// first state on. The stream continues after the input, detached.
    /// </summary>
    /// <param name="input">(B, T, …), T at least 1. No gradient reaches it, nor the state that the stream stands at.</param>
    /// <param name="target">(B, T, …)</param>
    /// <param name="loss">
    /// From the model's output and the target of a window, (B, window, …) each, to a scalar. The losses of the windows are
    /// added, so it must be a sum over tokens; divide by a number of your own for a mean. Parameters that it uses get a gradient
    /// only if they are the model's: a head belongs into the model. It may not change the stream.
    /// </param>
    /// <param name="info">What is known of each token; reaches every layer. Null: what an activation around the call says, or nothing.</param>
    /// <param name="progress">Is told, after each window of either pass, how many of the T tokens are done; each pass counts half.</param>
    /// <returns>The summed loss.</returns>
    /// <remarks>
    /// Dropout masks are the same in both passes. If the loss function throws, gradients, stream and random state are as before;
    /// only with a model in training on CUDA, whose random state cannot be read, it is seeded anew from the CPU's.
    /// </remarks>
    /// <exception cref="ArgumentException">An argument is empty, on another device, of another shape than the others, or requires a gradient that would be lost.</exception>
    /// <exception cref="InvalidOperationException">The model is no <c>Module&lt;Tensor, Tensor&gt;</c>, the loss no scalar, inference mode is on, or another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public double Backpropagate(Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, TokenInfo? info = null, IProgress<long>? progress = null)
    {
        CheckInput(input, ref info);
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(loss);
        if (target.dim() < 2 || target.size(0) != input.size(0) || target.size(1) != input.size(1))
        {
            throw new ArgumentException($"target has shape {Describe.Shape(target)}; it must begin with (B, T) = ({input.size(0)}, {input.size(1)}), like the input.", nameof(target));
        }

        if (input.requires_grad || info?.WriteWeights?.requires_grad == true || target.requires_grad)
        {
            throw new ArgumentException(
                "The input, its write weights or the target require a gradient; Backpropagate reaches the model's parameters alone: detach them.",
                target.requires_grad ? nameof(target) : nameof(input));
        }

        if (is_inference_mode_enabled())
        {
            throw new InvalidOperationException("Backpropagate was called in inference mode, in which there are no gradients: call it outside.");
        }

        return Untold(() => states.Atomically(() => new WindowedBackpropagation(this, model, Device).Run(input, target, loss, info, progress)));
    }

    /// <summary>Cuts the graph: no gradient flows past this point of the stream.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Detach() => Change(state => state.Detach());

    /// <summary>Forgets everything: the next call begins a new stream, of any batch size.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Reset()
    {
        CheckChangeable();
        states.Dispose();
    }

    /// <summary>Starts the given rows afresh, as if a new document began at their next token. Before the first token it does nothing.</summary>
    /// <param name="rows">bool, (B), on the stream's device: true for a row to reset.</param>
    /// <exception cref="ArgumentException">The mask has another shape, type or device.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void ResetRows(Tensor rows) => Change(state => state.ResetRows(rows));

    /// <summary>Keeps the given rows, in the given order; rows may repeat, drop and permute. Before the first token it does nothing.</summary>
    /// <param name="indices">int64, (B'), each in [0, B), on the stream's device.</param>
    /// <exception cref="ArgumentException">The indices have another shape, type or device, are none at all, or are out of range.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void SelectRows(Tensor indices) => Change(state => state.SelectRows(indices));

    /// <summary>Moves the stream to another device, as one moves its model.</summary>
    /// <param name="device">Where to.</param>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        Change(state => state.To(device));
    }

    /// <summary>An independent copy of the stream from here, through the same model.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public SegmentStreamer Fork()
    {
        CheckStill();
        var fork = new SegmentStreamer(model) { windowTokens = windowTokens };
        fork.states.Set([.. states.Current.Select(state => state?.Clone())]);
        return fork;
    }

    /// <summary>Saves the stream as a safetensors file. A reader of the path sees the old file or the new one, whole.</summary>
    /// <param name="path">The file; an existing one is replaced.</param>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Save(string path)
    {
        CheckStill();
        StreamFile.Save(states, path);
    }

    /// <summary>Writes the stream, as a safetensors file.</summary>
    /// <param name="stream">Where to write.</param>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Save(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckStill();
        StreamFile.Save(states, stream);
    }

    /// <summary>Continues from a saved stream.</summary>
    /// <param name="path">A file written by <see cref="Save(string)"/>, through a model with the same layers.</param>
    /// <exception cref="InvalidDataException">The file is truncated, altered, of a newer version, or of another model; the stream is as it was.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Load(string path)
    {
        CheckChangeable();
        using var stream = File.OpenRead(path);
        states.Set(StreamFile.Load(states, stream));
    }

    /// <summary>Continues from a saved stream.</summary>
    /// <param name="stream">What <see cref="Save(Stream)"/> wrote; it is read to its end.</param>
    /// <exception cref="InvalidDataException">The data is truncated, altered, of a newer version, or of another model; the stream is as it was.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Load(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckChangeable();
        states.Set(StreamFile.Load(states, stream));
    }

    /// <summary>Frees the states. The model stays as it is.</summary>
    public void Dispose()
    {
        if (!disposed)
        {
            disposed = true;
            states.Dispose();
        }
    }

    /// <summary>One call of the model, which must take every layer past all tokens of the input.</summary>
    internal Tensor RunModel(Tensor input, TokenInfo? info, bool reuse)
    {
        var position = Position;
        using var activation = new Activation(this, info) { Reuse = reuse, IsCall = true };
        var output = ((nn.Module<Tensor, Tensor>)model).call(input);
        states.RequireAdvance(position, input.size(1));
        if (output.dim() < 2 || output.size(1) != input.size(1))
        {
            throw new InvalidOperationException($"The model made an output of shape {Describe.Shape(output)} from {input.size(1)} tokens; a stream needs one output a token, (B, T, …).");
        }

        return output;
    }

    /// <summary>The windows of the next tokens: whole segments but for the first and the last.</summary>
    internal long NextWindow(long remaining) => Math.Min(remaining, windowTokens - (Position % segmentTokens));

    private IEnumerable<Tensor> RunWindows(Tensor input, TokenInfo? info, IProgress<long>? progress, bool areAtomic = false)
    {
        var tokens = input.size(1);
        for (long start = 0, length; start < tokens; start += length)
        {
            CheckUsable();
            length = NextWindow(tokens - start);
            var (from, count) = (start, length);
            yield return areAtomic ? states.Atomically(() => Next(from, count)) : Next(from, count);
        }

        Tensor Next(long start, long length)
        {
            using var scope = NewDisposeScope();
            var output = RunWindow(input, info, start, length);
            progress?.Report(start + length);
            return output.MoveToOuterDisposeScope();
        }
    }

    private Tensor RunWindow(Tensor input, TokenInfo? info, long start, long length)
    {
        // In place only where nothing but this call could still need the open segment as it was.
        var isWhole = length == input.size(1);
        using var scope = NewDisposeScope();
        return RunModel(isWhole ? input : input.narrow(1, start, length), isWhole ? info : info?.Narrow(start, length), isWhole).MoveToOuterDisposeScope();
    }

    private void Change(Func<MemoryState, MemoryState> map)
    {
        CheckChangeable();
        states.Map(map);
    }

    /// <summary>Throws for an input that the stream does not take. Without info of its own a call takes that of the activation around it.</summary>
    private void CheckInput(Tensor input, ref TokenInfo? info)
    {
        ArgumentNullException.ThrowIfNull(input);
        CheckUsable();
        if (model is not nn.Module<Tensor, Tensor>)
        {
            throw new InvalidOperationException($"The model, a {model.GetType().Name}, is no Module<Tensor, Tensor>: call it yourself inside Activate.");
        }

        if (input.dim() < 2 || input.size(0) < 1 || input.size(1) < 1)
        {
            throw new ArgumentException($"input has shape {Describe.Shape(input)}; it must be (B, T, …) with at least one row and one token.", nameof(input));
        }

        if (states.Batch is { } batch && input.size(0) != batch)
        {
            throw new ArgumentException($"input has {input.size(0)} rows; the stream has {batch}: Reset it, or change its rows with SelectRows.", nameof(input));
        }

        if (!Describe.SameDevice(input, states.Layers[0].Layer.Gate))
        {
            throw new ArgumentException($"input is on {input.device}; it must be on {Device}, like the model.", nameof(input));
        }

        info ??= activeInfo;
        info?.Validate(input.size(0), input.size(1), input.device);
    }

    private void CheckUsable()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (current is not null && !ReferenceEquals(current, this))
        {
            throw new InvalidOperationException("Another stream is active on this thread; end its activation first.");
        }
    }

    private void CheckStill()
    {
        ObjectDisposedException.ThrowIf(disposed, this);
        if (states.IsMidway)
        {
            throw new InvalidOperationException("The stream stands between its model's layers: some have read tokens that others have not.");
        }
    }

    private void CheckChangeable()
    {
        CheckStill();
        states.CheckOutsideCall();
    }
}
