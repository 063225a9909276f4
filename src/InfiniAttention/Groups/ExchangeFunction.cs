using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// An exchange between ranks as a function of the graph: of a tensor of this rank, to one that the others determine. Its second input and output only
/// order the exchanges of a call, see <see cref="Stretch.Ordered"/>.
/// </summary>
/// <remarks>Arguments: the tensor, the output of the exchange before (or null), the group, then those of the function.</remarks>
internal abstract class ExchangeFunction<T> : autograd.MultiTensorFunction<T>
    where T : ExchangeFunction<T>, new()
{
    /// <inheritdoc/>
    public override string Name => typeof(T).Name;

    /// <summary>Runs the exchange, as a function of the graph if gradients are on.</summary>
    /// <param name="stretch">This rank's stretch.</param>
    /// <param name="x">This rank's tensor, contiguous.</param>
    /// <param name="arguments">The function's further arguments; it has gradients of the tensors among them.</param>
    public static Tensor Run(Stretch stretch, Tensor x, params object?[] arguments) => is_grad_enabled()
        ? stretch.Ordered(order => apply([x, order!, stretch.Group, .. arguments!]))
        : new T().Exchange(null, x, stretch.Group, arguments);

    /// <inheritdoc/>
    public sealed override List<Tensor> forward(autograd.AutogradContext ctx, params object[] vars)
    {
        using var scope = NewDisposeScope();
        var (x, group) = ((Tensor)vars[0], (ISequenceGroup)vars[2]);
        ctx.set_materialize_grads(false); // TorchSharp would make zeros like an output that may be disposed of by then
        ctx.save_data("arguments", vars.Length);
        ctx.save_data("isOrdered", vars[1] is not null);
        ctx.save_data("group", group);
        ctx.save_data("like", (Describe.Sizes(x), x.dtype, x.device));
        var received = Exchange(ctx, x, group, vars[3..]);
        return [received.MoveToOuterDisposeScope(), zeros([1], ScalarType.Float32, CPU).MoveToOuterDisposeScope()];
    }

    /// <inheritdoc/>
    public sealed override List<Tensor> backward(autograd.AutogradContext ctx, List<Tensor> grad_outputs)
    {
        using var scope = NewDisposeScope();
        var (sizes, type, device) = ((long[], ScalarType, Device))ctx.get_data("like");
        var gradient = grad_outputs[0].IsInvalid ? zeros(sizes, type, device) : grad_outputs[0].contiguous();
        var gradients = new List<Tensor>(new Tensor[(int)ctx.get_data("arguments")]);
        (gradients[0], var others) = ExchangeGradient(ctx, gradient, (ISequenceGroup)ctx.get_data("group"));
        if (ctx.get_data("isOrdered") is true)
        {
            gradients[1] = zeros([1], ScalarType.Float32, CPU);
        }

        for (var i = 0; i < others.Length; i++)
        {
            gradients[3 + i] = others[i]!;
        }

        gradients.ForEach(each => each?.MoveToOuterDisposeScope());
        return gradients;
    }

    /// <summary>What this rank receives. The context keeps what the gradient needs; null if there will be none.</summary>
    protected abstract Tensor Exchange(autograd.AutogradContext? ctx, Tensor x, ISequenceGroup group, object?[] arguments);

    /// <summary>The gradient of this rank's tensor from that of what it received, and those of the function's further arguments.</summary>
    protected abstract (Tensor OfX, Tensor?[] OfArguments) ExchangeGradient(autograd.AutogradContext ctx, Tensor gradient, ISequenceGroup group);
}
