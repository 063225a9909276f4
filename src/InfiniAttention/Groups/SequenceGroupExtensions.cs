using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What the processes of a group do with the parameters of their copies of a model.</summary>
public static class SequenceGroupExtensions
{
    /// <summary>Gives every rank the parameters and buffers of one: at the beginning of a training, or from time to time if the ranks' machines round differently.</summary>
    /// <param name="group">The group.</param>
    /// <param name="model">The model, with the same parameters, in the same order, on every rank.</param>
    /// <param name="rank">The rank whose parameters all get.</param>
    public static void BroadcastParameters(this ISequenceGroup group, nn.Module model, int rank = 0)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(model);
        using var noGrad = no_grad();
        foreach (var tensor in model.parameters().Concat(model.buffers()))
        {
            using var scope = NewDisposeScope();
            var values = tensor.detach().contiguous();
            group.Broadcast(values, rank);
            tensor.copy_(values);
        }
    }

    /// <summary>
    /// Replaces the gradients of the parameters on every rank by their sum over the ranks: after <c>backward</c> on losses of which each rank has a part.
    /// <see cref="SegmentStreamer.Backpropagate"/> has done this already.
    /// </summary>
    /// <param name="group">The group.</param>
    /// <param name="model">The model, with the same parameters, in the same order, on every rank.</param>
    public static void SumGradients(this ISequenceGroup group, nn.Module model) => Combine(group, model, 1);

    /// <summary>The same with the mean over the ranks: after <c>backward</c> on losses that are means of as many tokens each.</summary>
    /// <param name="group">The group.</param>
    /// <param name="model">The model, with the same parameters, in the same order, on every rank.</param>
    public static void AverageGradients(this ISequenceGroup group, nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(group);
        Combine(group, model, 1.0 / group.Size);
    }

    private static void Combine(ISequenceGroup group, nn.Module model, double factor)
    {
        ArgumentNullException.ThrowIfNull(group);
        ArgumentNullException.ThrowIfNull(model);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Parameter[] parameters = [.. model.parameters().Where(parameter => parameter.requires_grad).DistinctBy(parameter => parameter.Handle)];
        var sums = GroupSum.Of(group, [.. parameters.Select(parameter => parameter.grad)], parameters);
        using Scalar share = factor;
        for (var i = 0; i < parameters.Length; i++)
        {
            if (sums[i] is { } sum)
            {
                var rounded = Describe.As(sum.mul_(share), parameters[i].dtype);
                if (parameters[i].grad is { } existing)
                {
                    existing.copy_(rounded);
                }
                else
                {
                    parameters[i].grad = rounded;
                }
            }
        }
    }
}
