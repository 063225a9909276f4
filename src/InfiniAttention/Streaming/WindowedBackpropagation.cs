using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The exact gradient of a sequence of any length with the graph of one window. Nothing but the layers' states crosses a
/// window's boundary, so the gradient of a window's final state is all that its back-propagation needs to know of the rest.
/// </summary>
internal sealed class WindowedBackpropagation(SegmentStreamer streamer, nn.Module model, Device device)
{
    // Distinct, because a model may tie parameters.
    private readonly Parameter[] parameters = [.. model.parameters().Where(parameter => parameter.requires_grad).DistinctBy(parameter => parameter.Handle)];

    private readonly bool isRandom = model.modules().Prepend(model).Any(module => module.training);

    public double Run(Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, TokenInfo? info, IProgress<long>? progress)
    {
        using var scope = NewDisposeScope();
        using var randomBefore = RandomState.Capture(device, isRandom);
        var boundaries = new List<Boundary>();
        var gradients = new Tensor?[parameters.Length];
        try
        {
            streamer.States.Map(state => state.Detach());
            Forward(input, info, boundaries, progress);
            var total = Backward(input, target, loss, info, boundaries, gradients, progress);
            var end = boundaries[^1];
            streamer.States.Set([.. end.States.Select(state => state!.Detach())]);
            end.Random.Restore();
            Accumulate(gradients);
            return total;
        }
        catch
        {
            randomBefore.Restore();
            throw;
        }
        finally
        {
            boundaries.ForEach(boundary => boundary.Dispose());
            Array.ForEach(gradients, gradient => gradient?.Dispose());
        }
    }

    /// <summary>All windows but the last, without a graph, keeping what stands at the beginning of each.</summary>
    private void Forward(Tensor input, TokenInfo? info, List<Boundary> boundaries, IProgress<long>? progress)
    {
        using var noGrad = no_grad();
        var tokens = input.shape[1];
        for (long start = 0; start < tokens;)
        {
            var length = streamer.NextWindow(tokens - start);
            boundaries.Add(Present(start, length));
            if (start + length < tokens)
            {
                using var scope = NewDisposeScope();
                streamer.RunModel(input.narrow(1, start, length), info?.Narrow(start, length), false);
                progress?.Report((start + length) / 2);
            }

            start += length;
        }
    }

    /// <summary>
    /// From the last window to the first: recompute, back-propagate, hand the gradient of the first state on. What stands
    /// at the end of the input is added to the boundaries.
    /// </summary>
    private double Backward(
        Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, TokenInfo? info, List<Boundary> boundaries, Tensor?[] gradients, IProgress<long>? progress)
    {
        using var grad = enable_grad();
        using var scope = NewDisposeScope();
        var total = 0.0;
        Tensor?[] handedOn = [];
        for (var w = boundaries.Count - 1; w >= 0; w--)
        {
            using var window = NewDisposeScope();
            var boundary = boundaries[w];
            using var first = new Leaves(boundary);
            first.RequireGradients();
            streamer.States.Set([.. first.States.Select(state => state?.Map(tensor => tensor.alias()))]);
            boundary.Random.Restore();

            var output = streamer.RunModel(input.narrow(1, boundary.Start, boundary.Length), info?.Narrow(boundary.Start, boundary.Length), false);
            var windowLoss = loss(output, target.narrow(1, boundary.Start, boundary.Length));
            if (windowLoss.numel() != 1)
            {
                throw new InvalidOperationException($"The loss function returned a tensor of shape {Describe.Shape(windowLoss)}; it must be a scalar.");
            }

            total += windowLoss.ToDouble();
            if (boundary.Start + boundary.Length == input.shape[1])
            {
                boundaries.Add(Present(input.shape[1], 0));
            }

            var next = Differentiate(windowLoss, Differentiable(streamer.States.Current), handedOn, Differentiable(first.States), gradients);
            Array.ForEach(handedOn, gradient => gradient?.Dispose());
            Array.ForEach(next, gradient => gradient?.MoveToOuterDisposeScope());
            handedOn = next;

            progress?.Report((input.shape[1] + (input.shape[1] - boundary.Start)) / 2);
        }

        return total;
    }

    /// <summary>What stands at the stream's present position, before a window that starts at <paramref name="start"/>.</summary>
    private Boundary Present(long start, long length) =>
        new(start, length, [.. streamer.States.Current.Select(state => state?.Detach())], RandomState.Capture(device, isRandom));

    /// <summary>Adds a window's gradients to those of the parameters, and returns those of its first states.</summary>
    private Tensor?[] Differentiate(Tensor windowLoss, Tensor[] last, Tensor?[] handedOn, Tensor[] first, Tensor?[] gradients)
    {
        var outputs = new List<Tensor>();
        var outputGradients = new List<Tensor>();
        if (windowLoss.requires_grad)
        {
            outputs.Add(windowLoss);
            outputGradients.Add(ones_like(windowLoss));
        }

        for (var i = 0; i < handedOn.Length; i++)
        {
            if (handedOn[i] is { } gradient && last[i].requires_grad)
            {
                outputs.Add(last[i]);
                outputGradients.Add(gradient);
            }
        }

        if (outputs.Count == 0)
        {
            return new Tensor?[first.Length];
        }

        var inputs = parameters.Concat(first).ToArray();
        var results = autograd.grad(outputs, inputs, outputGradients, allow_unused: true);
        using var noGrad = no_grad();
        for (var i = 0; i < parameters.Length; i++)
        {
            if (results[i].IsInvalid)
            {
                continue; // this window does not use the parameter
            }

            if (gradients[i] is { } sum)
            {
                sum.add_(results[i]);
            }
            else
            {
                gradients[i] = results[i].clone().DetachFromDisposeScope();
            }
        }

        return [.. results.Skip(parameters.Length).Select(result => result.IsInvalid ? null : result)];
    }

    private void Accumulate(Tensor?[] gradients)
    {
        using var noGrad = no_grad();
        for (var i = 0; i < parameters.Length; i++)
        {
            if (gradients[i] is not { } gradient)
            {
                continue;
            }

            using var existing = parameters[i].grad;
            if (existing is null)
            {
                parameters[i].grad = gradient;
            }
            else
            {
                existing.add_(gradient);
            }
        }
    }

    /// <summary>The tensors of the states through which gradients flow.</summary>
    private static Tensor[] Differentiable(IEnumerable<MemoryState?> states) =>
        [.. states.SelectMany(state => state?.Tensors ?? []).Where(tensor => Describe.IsFloating(tensor.dtype))];

    /// <summary>What stands at the beginning of a window.</summary>
    private sealed record Boundary(long Start, long Length, MemoryState?[] States, RandomState Random) : IDisposable
    {
        public void Dispose()
        {
            Array.ForEach(States, state => state?.Dispose());
            Random.Dispose();
        }
    }

    /// <summary>States as leaves of a new graph; copies, because what was made in inference mode cannot enter a graph.</summary>
    private sealed record Leaves(MemoryState?[] States) : IDisposable
    {
        public Leaves(Boundary boundary)
            : this([.. boundary.States.Select(state => state?.Clone())])
        {
        }

        public void RequireGradients() => Array.ForEach(Differentiable(States), tensor => tensor.requires_grad_(true));

        public void Dispose() => Array.ForEach(States, state => state?.Dispose());
    }
}
