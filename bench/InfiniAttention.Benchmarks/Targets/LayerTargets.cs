using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>The layer over a whole sequence, against the sum of its kernels, against loops over segments, and rule against rule.</summary>
internal static class LayerTargets
{
    private const long Tokens = 32 * Setting.Kilo;
    private const long TrainingTokens = 8 * Setting.Kilo;
    private const long LoopTokens = 16 * Setting.Kilo;
    private static readonly long[] LoopSegments = [64, 128, 256, 1024, 2048];

    public static IEnumerable<Target> All(Setting setting)
    {
        yield return new("kernels-n2048", "forward over the sum of its kernels, T 32768, D 512, N 2048", Bound.AtMost, 1.05, s => OverKernels(s, LayerShape.Long));
        yield return new("kernels-n128", "forward over the sum of its kernels, T 32768, D 256, N 128", Bound.AtMost, 1.15, s => OverKernels(s, LayerShape.Short));
        yield return new("kernels-training-n2048", "forward and backward over those of its kernels, T 8192, D 512, N 2048", Bound.AtMost, 1.05, s => TrainingOverKernels(s, LayerShape.Long));
        yield return new("kernels-training-n128", "forward and backward over those of its kernels, T 8192, D 512, N 128",
            Bound.AtMost, 1.1, s => TrainingOverKernels(s, LayerShape.Long with { SegmentLength = 128 }));
        yield return new("paper-forward", "paper-literal loop over ours, N 2048, forward", Bound.AtLeast, 5, s => Loop(s, 2048, false, weights => new PaperLiteralLoop(weights).Forward));
        yield return new("paper-training", "paper-literal loop over ours, N 2048, forward and backward", Bound.None, 0, s => Loop(s, 2048, true, weights => new PaperLiteralLoop(weights).Forward));
        foreach (var n in LoopSegments)
        {
            var limit = (setting.Device.type, n) switch
            {
                (TorchSharp.DeviceType.CUDA, <= 256) => 3,
                (_, 64) => 1.5,
                (_, 128) => 1.15,
                _ => 0.99,
            };
            yield return new($"loop-forward-n{n}", $"loop with fused attention over ours, N {n}, forward", Bound.AtLeast, limit, s => Loop(s, n, false, weights => new FusedLoop(weights).Forward));
            yield return new($"loop-training-n{n}", $"loop with fused attention over ours, N {n}, forward and backward",
                Bound.AtLeast, limit, s => Loop(s, n, true, weights => new FusedLoop(weights).Forward));
        }

        yield return new("delta-n2048", "delta rule over linear rule, forward, D 512, N 2048", Bound.AtMost, 1.1, s => OverPlain(s, LayerShape.Long, Delta));
        yield return new("delta-n128", "delta rule over linear rule, forward, D 256, N 128", Bound.AtMost, 1.1, s => OverPlain(s, LayerShape.Short, Delta));
        foreach (var shape in new[] { LayerShape.Long, LayerShape.Short })
        {
            var what = $"D {shape.Width}, N {shape.SegmentLength}";
            yield return new($"norm-n{shape.SegmentLength}", $"MemoryNorm over a layer without, forward, {what}", Bound.AtMost, 1.1, s => OverPlain(s, shape, Norm));
            yield return new($"norm-training-n{shape.SegmentLength}", $"MemoryNorm over a layer without, forward and backward, {what}", Bound.AtMost, 1.1, s => TrainingOverPlain(s, shape, Norm));
            yield return new($"own-projections-n{shape.SegmentLength}", $"MemoryNorm and OwnMemoryProjections over a layer without, forward, {what}",
                Bound.None, 0, s => OverPlain(s, shape, OwnProjections));
            yield return new($"local-segments-n{shape.SegmentLength}", $"LocalSegments 2 over 1, forward, {what}",
                Bound.None, 0, s => OverPlain(s, shape, options => options with { LocalSegments = 2 }));
        }
    }

    private static Comparison OverKernels(Setting setting, LayerShape shape)
    {
        var (layer, x) = setting.LayerAndInput(Tokens, shape);
        using var noGrad = no_grad();
        var kernels = new UnavoidableKernels(new(layer), x, BlockSize.Segments(layer.Options, x) * shape.SegmentLength);
        return setting.Clock.Compare("forward", () => layer.call(x), "kernels", kernels.Run);
    }

    private static Comparison TrainingOverKernels(Setting setting, LayerShape shape)
    {
        var (layer, x) = setting.LayerAndInput(TrainingTokens, shape);
        var kernels = new TrainingKernels(new(layer), x, BlockSize.Segments(layer.Options, x) * shape.SegmentLength);
        var gradient = randn_like(x);
        var input = x.detach().requires_grad_(true);
        return setting.Clock.Compare("forward and backward", () => layer.call(input).backward([gradient]), "kernels", kernels.Run);
    }

    private static InfiniAttentionOptions Delta(InfiniAttentionOptions options) => options with { Update = MemoryUpdate.Delta };

    private static InfiniAttentionOptions Norm(InfiniAttentionOptions options) => options with { MemoryNorm = true };

    private static InfiniAttentionOptions OwnProjections(InfiniAttentionOptions options) => options with { MemoryNorm = true, OwnMemoryProjections = true };

    private static Comparison OverPlain(Setting setting, LayerShape shape, Func<InfiniAttentionOptions, InfiniAttentionOptions> change)
    {
        var (plain, x) = setting.LayerAndInput(Tokens, shape);
        var (changed, _) = setting.LayerAndInput(Tokens, shape, change);
        using var noGrad = no_grad();
        return setting.Clock.Compare("with", () => changed.call(x), "without", () => plain.call(x));
    }

    private static Comparison TrainingOverPlain(Setting setting, LayerShape shape, Func<InfiniAttentionOptions, InfiniAttentionOptions> change)
    {
        var (plain, x) = setting.LayerAndInput(TrainingTokens, shape);
        var (changed, _) = setting.LayerAndInput(TrainingTokens, shape, change);
        var gradient = randn_like(x);
        x.requires_grad_(true);
        return setting.Clock.Compare("with", () => changed.call(x).backward([gradient]), "without", () => plain.call(x).backward([gradient]));
    }

    private static Comparison Loop(Setting setting, long segmentLength, bool training, Func<LayerWeights, Func<Tensor, Tensor>> baseline)
    {
        var (layer, x) = setting.LayerAndInput(LoopTokens, LayerShape.Long with { SegmentLength = segmentLength });
        var loop = baseline(new(layer));
        RequireSameOutput(layer.call, loop, x);
        if (!training)
        {
            using var noGrad = no_grad();
            return setting.Clock.Compare("loop", () => loop(x), "ours", () => layer.call(x));
        }

        var gradient = randn_like(x);
        x.requires_grad_(true);
        return setting.Clock.Compare("loop", () => loop(x).backward([gradient]), "ours", () => layer.call(x).backward([gradient]));
    }

    /// <summary>Comparing the times of two computations says something only if they compute the same.</summary>
    private static void RequireSameOutput(Func<Tensor, Tensor> layer, Func<Tensor, Tensor> baseline, Tensor x)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var (expected, actual) = (baseline(x), layer(x));
        var difference = ((actual - expected).abs().max() / expected.abs().max()).item<float>();
        if (difference is not < 1e-4f)
        {
            throw new MeasurementException($"The layer and its baseline differ by {difference:G3} of the largest output: their times are not of the same computation.");
        }
    }
}
