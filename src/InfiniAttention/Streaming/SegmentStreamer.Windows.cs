using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>How a call passes the input through the model, window by window.</content>
public sealed partial class SegmentStreamer
{
    /// <summary>Passes written segments to the listeners; null if there are none.</summary>
    internal SegmentObserver? Observer => SegmentWritten is not { } told ? null : (layer, tokens, memory, position) =>
    {
        var name = states.Layers.First(entry => entry.Layer == layer).Name;
        foreach (var report in StreamReports.OfSegments(name, layer.MemoryNorm?.In(memory.M.dtype), tokens, memory, position))
        {
            told(report);
        }
    };

    /// <summary>One call of the model on a part of the input, which must take every layer past all tokens of it.</summary>
    internal Tensor RunWindow(Tensor input, TokenInfo? info, (long Start, long Length) window, bool isObserved = true, Stretch? stretch = null)
    {
        using var collection = new WindowCollection(window.Length);
        using var activation = new Activation(states, info?.Narrow(window.Start, window.Length), isCall: true, isObserved, stretch);
        var part = input.narrow(1, window.Start, window.Length);
        var output = ((nn.Module<Tensor, Tensor>)model).call(part);
        states.CommitCall((stretch?.Offset ?? 0) + window.Length);
        return output.dim() >= 2 && output.size(1) == window.Length ? output : throw new InvalidOperationException(
            $"The model returned an output of shape {Describe.Shape(output)} for {window.Length} tokens; a stream needs one output per token, (B, T, …).");
    }

    /// <summary>The length of the next window from a position on: windows end at multiples of their length.</summary>
    internal long NextWindow(long position, long remaining) =>
        sharing?.NextWindow(position, remaining, windowTokens) ?? Math.Min(remaining, windowTokens - (position % windowTokens));

    /// <summary>
    /// The next window of a call whose outputs share one graph. In half precision with gradients that is the whole rest of the input: libtorch would sum the
    /// gradients of several windows in half precision, and the graph holds the temporaries of all windows anyway.
    /// </summary>
    private long NextWindowOfGraph(long position, long remaining) =>
        is_grad_enabled() && model.parameters().Any(weight => weight.requires_grad && Describe.IsHalf(weight.dtype)) ? remaining : NextWindow(position, remaining);

    private IEnumerable<Tensor> Windows(Tensor input, TokenInfo? info, IProgress<long>? progress, (bool Gradients, bool Inference) mode, CancellationToken cancellationToken)
    {
        var tokens = input.size(1);
        for (long start = 0, length; start < tokens; start += length)
        {
            CheckUsable();
            ThrowIfCancelled(cancellationToken);
            length = NextWindow(Position, tokens - start);
            yield return Next(start, length);
        }

        Tensor Next(long start, long length)
        {
            using var inference = mode.Inference == is_inference_mode_enabled() ? null : inference_mode(mode.Inference);
            using var gradients = enable_grad(mode.Gradients);
            using var transaction = states.Begin();
            using var scope = NewDisposeScope();
            var output = RunWhole(input, info, (start, length));
            progress?.Report(start + length);
            transaction.Complete();
            return output.MoveToOuterDisposeScope();
        }
    }

    /// <summary>Throws if the stream does not accept the input. A call without info gets that of the activation around it.</summary>
    private void CheckInput(Tensor input, ref TokenInfo? info)
    {
        ArgumentNullException.ThrowIfNull(input);
        CheckUsable();
        if (model is not nn.Module<Tensor, Tensor>)
        {
            throw new InvalidOperationException($"The model, a {model.GetType().Name}, is not a Module<Tensor, Tensor>: call it yourself inside Activate.");
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

        info ??= StreamSlot.Active?.Info;
        info?.Validate(input.size(0), input.size(1), input.device);
    }

    private void CheckUsable()
    {
        states.CheckAlive();
        if (Current is { } current && current != this)
        {
            throw new InvalidOperationException("Another stream is active on this thread; end its activation first.");
        }
    }
}
