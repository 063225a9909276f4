using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The gradients of a model's parameters, summed over windows in at least float32 and rounded to the parameters' types once.</summary>
internal sealed class ParameterGradients : IDisposable
{
    // Distinct, because a model may tie parameters.
    private readonly Parameter[] parameters;
    private readonly Tensor?[] sums;

    public ParameterGradients(nn.Module model)
    {
        parameters = [.. model.parameters().Where(parameter => parameter.requires_grad).DistinctBy(parameter => parameter.Handle)];
        sums = new Tensor?[parameters.Length];
    }

    /// <summary>Adds a window's gradients, and returns those of its first states.</summary>
    /// <param name="loss">The window's share of the loss.</param>
    /// <param name="last">The tensors of the window's final states.</param>
    /// <param name="handedOn">Their gradients, from the later windows; none for the last window.</param>
    /// <param name="first">The tensors of the window's first states.</param>
    public Tensor?[] Add(Tensor loss, Tensor[] last, Tensor?[] handedOn, Tensor[] first)
    {
        var outputs = new List<Tensor>();
        var outputGradients = new List<Tensor>();
        if (loss.requires_grad)
        {
            outputs.Add(loss);
            outputGradients.Add(ones_like(loss));
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

        var results = autograd.grad(outputs, [.. parameters, .. first], outputGradients, allow_unused: true);
        HostFeatures.DisposeOfReturned();
        using var noGrad = no_grad();
        for (var i = 0; i < parameters.Length; i++)
        {
            if (results[i].IsInvalid)
            {
                continue; // this window does not use the parameter
            }

            var wide = MemoryState.TypeFor(results[i].dtype);
            if (sums[i] is { } sum)
            {
                sum.add_(Describe.As(results[i], wide), Scalars.One);
            }
            else
            {
                sums[i] = results[i].to(wide, copy: true).DetachFromDisposeScope();
            }
        }

        return [.. results.Skip(parameters.Length).Select(result => result.IsInvalid ? null : result)];
    }

    /// <summary>Sums the gradients over the ranks of a group.</summary>
    public void SumOver(ISequenceGroup group)
    {
        using var scope = NewDisposeScope();
        var all = GroupSum.Of(group, sums, parameters);
        for (var i = 0; i < sums.Length; i++)
        {
            sums[i]?.Dispose();
            sums[i] = all[i]?.DetachFromDisposeScope();
        }
    }

    /// <summary>Adds the sums to the parameters' gradients.</summary>
    public void AddToParameters()
    {
        using var noGrad = no_grad();
        for (var i = 0; i < parameters.Length; i++)
        {
            if (sums[i] is not { } sum)
            {
                continue;
            }

            using var scope = NewDisposeScope();
            var existing = parameters[i].grad;
            if (existing is not null)
            {
                sum.add_(Describe.As(existing, sum.dtype), Scalars.One);
            }

            var rounded = Describe.As(sum, parameters[i].dtype);
            if (existing is not null)
            {
                existing.copy_(rounded);
            }
            else
            {
                parameters[i].grad = rounded;
            }
        }
    }

    public void Dispose() => Array.ForEach(sums, sum => sum?.Dispose());
}
