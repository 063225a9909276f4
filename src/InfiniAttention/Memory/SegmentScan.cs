using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The recurrence X_s = T_s X_{s-1} + W_s over the S segments of a block; X is M or z.</summary>
internal static class SegmentScan
{
    /// <summary>X before each segment, and after the last. The recurrence runs in the type of T, if that is wider.</summary>
    /// <param name="initial">X before the first segment, (B, G, …)</param>
    /// <param name="t">T, (B, S, G, K, K); null for the identity.</param>
    /// <param name="w">W, (B, S, G, …)</param>
    /// <param name="keep">(B, S) bool: false for a segment in which a document starts, which clears X before it; null if all are true.</param>
    /// <returns>(B, S, G, …) and (B, G, …)</returns>
    public static (Tensor Before, Tensor After) Run(Tensor initial, Tensor? t, Tensor w, Tensor? keep)
    {
        using var scope = NewDisposeScope();
        var segments = (int)w.size(1);
        if (t is null && keep is null && segments > 1 && HostPasses.TakesSums(w))
        {
            var (before, after) = HostPasses.Sums(initial, w);
            return (before.MoveToOuterDisposeScope(), after.MoveToOuterDisposeScope());
        }

        if (t is null && keep is null && segments > 1 && w.device_type != DeviceType.CPU)
        {
            // On a GPU the time depends on the number of launches.
            var sums = cat([initial.unsqueeze(1), w], 1).cumsum(1);
            return (sums.narrow(1, 0, segments).MoveToOuterDisposeScope(), sums.select(1, segments).MoveToOuterDisposeScope());
        }

        var type = t?.dtype ?? w.dtype;
        var (steps, writes) = (t is null ? null : Slices(t), Slices(Describe.As(w, type)));
        var states = new Tensor[segments + 1];
        states[0] = Describe.As(initial, type);
        for (var s = 0; s < segments; s++)
        {
            var previous = StretchMap.Kept(states[s], keep?.select(1, s));
            states[s + 1] = steps is null ? previous.add(writes[s], Scalars.One) : Product(steps[s], previous).add_(writes[s], Scalars.One);
        }

        var allBefore = segments == 1 ? initial.unsqueeze(1) : Describe.As(stack(states[..segments], 1), initial.dtype);
        return (allBefore.MoveToOuterDisposeScope(), Describe.As(states[segments], initial.dtype).MoveToOuterDisposeScope());
    }

    /// <summary>What all segments write together, if they do not change what is there: W with X_S = X_0 + W.</summary>
    /// <param name="w">W of each segment, (B, S, G, …)</param>
    /// <param name="keep">As in <see cref="Run"/>.</param>
    public static Tensor Total(Tensor w, Tensor? keep) => keep is null ? w.sum(dim: 1) : Run(zeros_like(w.select(1, 0)), null, w, keep).After;

    /// <summary>The slices of each segment. With gradients they are made by one operator, because the gradient of a single slice is as large as the whole tensor.</summary>
    private static Tensor[] Slices(Tensor perSegment)
    {
        if (is_grad_enabled() && perSegment.requires_grad)
        {
            return perSegment.unbind(1);
        }

        var slices = new Tensor[perSegment.size(1)];
        for (var s = 0; s < slices.Length; s++)
        {
            slices[s] = perSegment.select(1, s);
        }

        return slices;
    }

    /// <summary>T X for each row and head, (B, G, K, V)</summary>
    public static Tensor Product(Tensor t, Tensor x)
    {
        var (batch, heads, width, valueWidth) = (x.size(0), x.size(1), x.size(2), x.size(3));
        using var matrices = t.reshape(batch * heads, width, width);
        using var states = x.reshape(batch * heads, width, valueWidth);
        return matrices.bmm(states).view(batch, heads, width, valueWidth);
    }
}
