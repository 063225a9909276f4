using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The exact gradient of a sequence of any length with the graph of one window. Nothing but the layers' states crosses a
/// window's boundary, so the gradient of a window's final state is all that its back-propagation needs to know of the rest.
/// </summary>
internal sealed class WindowedBackpropagation(SegmentStreamer streamer, nn.Module model, TokenLosses losses)
{
    private readonly bool isRandom = streamer.IsRandom;

    /// <summary>Gets the number of tokens that are done; each pass counts half.</summary>
    public IProgress<long>? Progress { get; init; }

    /// <summary>Cancels between windows.</summary>
    public CancellationToken Cancellation { get; init; }

    private StreamSharing? Sharing => streamer.Sharing;

    private Device Device => streamer.States.Layers[0].Layer.Gate.device;

    /// <summary>Adds the gradient to the model's parameters and returns the loss over the whole input.</summary>
    public double Run(Tensor input, TokenInfo? info)
    {
        using var scope = NewDisposeScope();
        using var randomBefore = RandomState.Capture(Device, isRandom);
        using var boundaries = new WindowBoundaries(streamer.States, WindowsOf(input), isRandom ? Device : null);
        using var gradients = new ParameterGradients(model);
        try
        {
            streamer.States.Map(state => state.Detach());
            Forward(input, info, boundaries);
            var total = Backward(input, info, boundaries, gradients);
            boundaries.RestoreEnd();
            Sharing?.Sum(gradients);
            gradients.AddToParameters();
            return total;
        }
        catch
        {
            randomBefore.Restore();
            throw;
        }
    }

    private List<(long Start, long Length)> WindowsOf(Tensor input)
    {
        var windows = new List<(long, long)>();
        var position = streamer.Position;
        for (long start = 0, length; start < input.size(1); start += length)
        {
            length = streamer.NextWindow(position + start, input.size(1) - start);
            windows.Add((start, length));
        }

        return windows;
    }

    /// <summary>Runs all windows but the last without a graph and stores the states at the beginning of each window.</summary>
    private void Forward(Tensor input, TokenInfo? info, WindowBoundaries boundaries)
    {
        using var noGrad = no_grad();
        for (var w = 0; w < boundaries.Windows.Count; w++)
        {
            streamer.ThrowIfCancelled(Cancellation);
            var (start, length) = boundaries.Windows[w];
            boundaries.Keep(w);
            if (w + 1 < boundaries.Windows.Count)
            {
                using var scope = NewDisposeScope();
                var part = streamer.PartOf((start, length));
                Run(input, info, part);
                Sharing?.Settle(streamer.States, part, isRandom);
                Progress?.Report((start + length) / 2);
            }
        }
    }

    /// <summary>From the last window to the first: recomputes, back-propagates, and passes on the gradient of the window's first states.</summary>
    private double Backward(Tensor input, TokenInfo? info, WindowBoundaries boundaries, ParameterGradients gradients)
    {
        using var grad = enable_grad();
        using var scope = NewDisposeScope();
        var total = 0.0;
        Tensor?[] handedOn = [];
        for (var w = boundaries.Windows.Count - 1; w >= 0; w--)
        {
            streamer.ThrowIfCancelled(Cancellation);
            using var window = NewDisposeScope();
            var (start, length) = boundaries.Windows[w];
            using var collection = new WindowCollection(length);
            using var first = boundaries.Leaves(w);
            streamer.States.Set(first.Share());
            boundaries.RestoreRandom(w);

            var part = streamer.PartOf((start, length));
            var next = new Tensor?[first.Tensors.Length];
            if (part.IsMine)
            {
                var output = Run(input, info, part);
                var share = losses.Of(output, part.Start);
                streamer.States.CheckAlive();
                total += Describe.Number(share);
                var last = WindowBoundaries.Differentiable(streamer.States.Current);
                next = gradients.Add(share, last, Sharing?.HandedOn(handedOn, last, part) ?? handedOn, first.Tensors);
            }

            next = Sharing?.HandBack(next, first.Tensors) ?? next;
            if (w == boundaries.Windows.Count - 1)
            {
                Sharing?.Broadcast(streamer.States, part);
                boundaries.KeepEnd();
            }

            Array.ForEach(handedOn, gradient => gradient?.Dispose());
            Array.ForEach(next, gradient => gradient?.MoveToOuterDisposeScope());
            handedOn = next;
            Progress?.Report((input.size(1) + (input.size(1) - start)) / 2);
        }

        return Sharing?.Sum(total) ?? total;
    }

    /// <summary>Runs the model on this process's part of a window.</summary>
    private Tensor Run(Tensor input, TokenInfo? info, WindowPart part)
    {
        using var stretch = Sharing?.Begin(part, info);
        return streamer.RunWindow(Copy(input, part.Start, part.Length), info?.Narrow(part.Start, part.Length), (0, part.Length), isObserved: false, stretch);
    }

    /// <summary>A copy of a window of the input: a model that changes its input in place must get it unchanged in the second pass.</summary>
    private static Tensor Copy(Tensor input, long start, long length)
    {
        using var part = input.narrow(1, start, length);
        return part.clone();
    }
}
