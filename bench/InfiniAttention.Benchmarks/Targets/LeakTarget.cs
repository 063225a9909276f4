using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Live tensors left by a call once what it returned is disposed of.</summary>
internal static class LeakTarget
{
    public static IEnumerable<Target> All()
    {
        yield return new("live-tensors", "live tensors left by 10 calls of each kind beyond what they return or keep as state", Bound.AtMost, 0, Measure);
    }

    private static Comparison Measure(Setting setting)
    {
        var (layer, x) = setting.LayerAndInput(3 * LayerShape.Short.SegmentLength, LayerShape.Short);
        using var token = x.narrow(1, 0, 1);
        using var model = new TinyLanguageModel(setting.Device);
        var (input, target) = TinyLanguageModel.Sample(2 * TinyLanguageModel.SegmentLength, setting.Device);
        using SegmentStreamer streamer = new(layer), trainer = new(model);
        foreach (var parameter in model.parameters())
        {
            parameter.grad = zeros_like(parameter);
        }

        Action[] calls =
        [
            () => layer.call(x).Dispose(),
            () => WithoutGradients(() => layer.call(x).Dispose()),
            () => Continue(layer, x),
            () => WithoutGradients(() => streamer.Forward(x).Dispose()),
            () => WithoutGradients(() => streamer.Prefill(x).Dispose()),
            () => WithoutGradients(() => streamer.Forward(token).Dispose()),
            () => trainer.Backpropagate(input, target, TinyLanguageModel.Loss, LossReduction.Sum),
        ];
        return new(new("left", [.. calls.Select(call => Left(call))]), new("calls", [.. calls.Select(_ => 1.0)]), "tensors");
    }

    private static double Left(Action call)
    {
        const int Calls = 10;
        call();
        call();
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        for (var i = 0; i < Calls; i++)
        {
            call();
        }

        return DisposeScopeManager.Statistics.ThreadTotalLiveCount - before;
    }

    private static void WithoutGradients(Action call)
    {
        using var noGrad = no_grad();
        call();
    }

    private static void Continue(InfiniAttentionModule layer, Tensor x)
    {
        var (output, state) = layer.ForwardFrom(null, x);
        output.Dispose();
        state.Dispose();
    }
}
