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

    public double Run(Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, TokenInfo? info, IProgress<long>? progress)
    {
        using var scope = NewDisposeScope();
        using var randomBefore = RandomState.Capture(device, model.training);
        var boundaries = new List<Boundary>();
        var gradients = new Tensor?[parameters.Length];
        try
        {
            streamer.Detach();
            Forward(input, info, boundaries, progress);
            var (total, randomAfter) = Backward(input, target, loss, info, boundaries, gradients, progress);
            using (randomAfter)
            {
                randomAfter.Restore();
            }

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
            boundaries.Add(new(start, length, [.. streamer.States.Current.Select(state => state?.Detach())], RandomState.Capture(device, model.training)));
            if (start + length < tokens)
            {
                using var scope = NewDisposeScope();
                streamer.RunModel(input.narrow(1, start, length), info?.Narrow(start, length), false);
                progress?.Report((start + length) / 2);
            }

            start += length;
        }
    }

    /// <summary>From the last window to the first: recompute, back-propagate, hand the gradient of the first state on.</summary>
    private (double Loss, RandomState After) Backward(
        Tensor input, Tensor target, Func<Tensor, Tensor, Tensor> loss, TokenInfo? info, List<Boundary> boundaries, Tensor?[] gradients, IProgress<long>? progress)
    {
        using var grad = enable_grad();
        using var scope = NewDisposeScope();
        var total = 0.0;
        MemoryState[]? final = null;
        RandomState? after = null;
        Tensor?[] handedOn = [];
        for (var w = boundaries.Count - 1; w >= 0; w--)
        {
            using var window = NewDisposeScope();
            var boundary = boundaries[w];
            var first = boundary.BeginGraph();
            streamer.States.Set([.. first.Select(state => state?.Map((tensor, _) => tensor.alias()))]);
            boundary.Random.Restore();

            var output = streamer.RunModel(input.narrow(1, boundary.Start, boundary.Length), info?.Narrow(boundary.Start, boundary.Length), false);
            var windowLoss = loss(output, target.narrow(1, boundary.Start, boundary.Length));
            if (windowLoss.numel() != 1)
            {
                throw new InvalidOperationException($"The loss function returned a tensor of shape {Describe.Shape(windowLoss)}; it must be a scalar.");
            }

            total += windowLoss.ToDouble();
            var last = streamer.States.Current;
            after ??= RandomState.Capture(device, model.training);
            final ??= [.. last.Select(state => state!.Detach())];

            var next = Differentiate(windowLoss, Differentiable(last), handedOn, Differentiable(first), gradients);
            Array.ForEach(handedOn, gradient => gradient?.Dispose());
            Array.ForEach(next, gradient => gradient?.MoveToOuterDisposeScope());
            Array.ForEach(first, state => state?.Dispose());
            handedOn = next;

            progress?.Report((input.shape[1] + (input.shape[1] - boundary.Start)) / 2);
        }

        streamer.States.Set(final!);
        return (total, after!);
    }

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
        /// <summary>The states as leaves of a new graph.</summary>
        public MemoryState?[] BeginGraph()
        {
            var states = States.Select(state => state?.Detach()).ToArray();
            foreach (var tensor in Differentiable(states))
            {
                tensor.requires_grad_(true);
            }

            return states;
        }

        public void Dispose()
        {
            Array.ForEach(States, state => state?.Dispose());
            Random.Dispose();
        }
    }
}
