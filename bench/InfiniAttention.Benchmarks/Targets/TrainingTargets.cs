using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Exact gradients window by window: memory and time against ordinary training.</summary>
internal static class TrainingTargets
{
    private const long Kilo = Setting.Kilo;
    private const long OrdinaryTokens = 16 * Kilo;

    public static IEnumerable<Target> All(Setting setting)
    {
        var (longest, timed) = (setting.Tokens(256 * Kilo, 64 * Kilo), setting.Tokens(128 * Kilo, 32 * Kilo));
        yield return new("backpropagate-memory", $"Backpropagate over {longest / Kilo}K tokens: peak memory over that of 2 windows", Bound.AtMost, 1.2, s => PeakMemory(s, longest));
        yield return new("backpropagate-time", $"Backpropagate over {timed / Kilo}K tokens: time per token over ordinary training of 16K", Bound.AtMost, 1.3, s => TimePerToken(s, timed));
    }

    /// <summary>The exact gradient over the tokens with the graph of one window.</summary>
    public static void Backpropagate(TinyLanguageModel model, Tensor input, Tensor target)
    {
        using var streamer = new SegmentStreamer(model);
        streamer.Backpropagate(input, target, TinyLanguageModel.Loss, LossReduction.Sum);
    }

    /// <summary>The same with one graph over all tokens.</summary>
    public static void TrainOrdinarily(TinyLanguageModel model, Tensor input, Tensor target) =>
        TinyLanguageModel.Loss(model.call(input), target).backward();

    private static Comparison PeakMemory(Setting setting, long longest)
    {
        using var model = new TinyLanguageModel(setting.Device);
        using var streamer = new SegmentStreamer(model);
        var twoWindows = 2 * streamer.WindowTokens;
        var rounds = setting.IsQuick ? 1 : 3;
        var (above, below) = (new double[rounds], new double[rounds]);
        for (var round = 0; round < rounds; round++)
        {
            above[round] = JobProcess.Start(Workload.Backpropagate, longest, setting.DeviceName).PeakBytes;
            below[round] = JobProcess.Start(Workload.Backpropagate, twoWindows, setting.DeviceName).PeakBytes;
        }

        return new(new($"{longest / Kilo}K", above), new("2 windows", below), "B");
    }

    private static Comparison TimePerToken(Setting setting, long timed)
    {
        manual_seed(0);
        using var model = new TinyLanguageModel(setting.Device);
        var (input, target) = TinyLanguageModel.Sample(timed, setting.Device);
        var (shortInput, shortTarget) = TinyLanguageModel.Sample(OrdinaryTokens, setting.Device);
        return setting.Clock
            .Compare("Backpropagate", () => Backpropagate(model, input, target), "ordinary", () => TrainOrdinarily(model, shortInput, shortTarget))
            .Per(timed, OrdinaryTokens, "s/token");
    }
}
