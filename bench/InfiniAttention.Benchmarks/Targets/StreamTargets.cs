using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Streams: time and memory must not depend on how long a stream has run.</summary>
internal static class StreamTargets
{
    private const long Kilo = Setting.Kilo;
    private const long ChunkTokens = 4 * Kilo;

    public static IEnumerable<Target> All(Setting setting)
    {
        var (longest, position) = (setting.Tokens(1024 * Kilo, 128 * Kilo), setting.Tokens(1024 * Kilo, 64 * Kilo));
        yield return new("stream-time", $"time per token at {longest / Kilo}K tokens over that at 32K, streamed", Bound.AtMost, 1.05, s => TimePerToken(s, longest));
        yield return new("stream-memory", $"peak memory at {longest / Kilo}K tokens over that at 64K, streamed", Bound.AtMost, 1.02, s => PeakMemory(s, longest));
        yield return new("norm-memory", "peak memory of a stream of 64K tokens with MemoryNorm over that without", Bound.AtMost, 1.02, NormMemory);
        yield return new("step-position", $"one-token steps at position {position / Kilo}K over those at 4K", Bound.AtMost, 1.05, s => StepsByPosition(s, position));
        yield return new("step-allocation", "managed bytes allocated by a one-token step over those with a key/value cache, D 256, N 128", Bound.None, 0, s => StepAllocation(s, LayerShape.Short));
        foreach (var shape in new[] { LayerShape.Long, LayerShape.Short })
        {
            var what = $"D {shape.Width}, N {shape.SegmentLength}";
            yield return new($"step-cache-n{shape.SegmentLength}", $"one-token step over that with a key/value cache of N tokens, {what}", Bound.AtMost, 1.1, s => StepsOverCache(s, shape, true));
            yield return new($"step-filling-n{shape.SegmentLength}", $"one-token step over that with a cache that fills up alongside, {what}", Bound.None, 0, s => StepsOverCache(s, shape, false));
        }
    }

    /// <summary>Managed bytes that a step leaves to the garbage collector: those of a plain layer are only tensor handles.</summary>
    private static Comparison StepAllocation(Setting setting, LayerShape shape)
    {
        var (layer, chunk) = setting.LayerAndInput(ChunkTokens, shape);
        using var noGrad = no_grad();
        using var streamer = new SegmentStreamer(layer);
        using var cached = new CachedAttention(new(layer), 1, true);
        Read(streamer, chunk, ChunkTokens);
        var (token, steps) = (chunk.narrow(1, 0, 1), 4 * shape.SegmentLength);
        Step(streamer, token, steps);
        Step(cached, token, steps);
        return new(new("streamer", [Allocated(() => Step(streamer, token, steps)) / steps]), new("cache", [Allocated(() => Step(cached, token, steps)) / steps]), "B");
    }

    private static double Allocated(Action work)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        work();
        return GC.GetAllocatedBytesForCurrentThread() - before;
    }

    /// <summary>Streams tokens through the layer from an empty memory, the same chunk again and again.</summary>
    public static void Read(InfiniAttentionModule layer, Tensor chunk, long tokens)
    {
        using var streamer = new SegmentStreamer(layer);
        Read(streamer, chunk, tokens);
    }

    private static void Read(SegmentStreamer streamer, Tensor chunk, long tokens)
    {
        for (var end = streamer.Position + tokens; streamer.Position < end;)
        {
            streamer.Forward(chunk).Dispose();
        }
    }

    private static Comparison TimePerToken(Setting setting, long longest)
    {
        var (layer, chunk) = setting.LayerAndInput(ChunkTokens, LayerShape.Short);
        using var noGrad = no_grad();
        return setting.Clock
            .Compare($"{longest / Kilo}K", () => Read(layer, chunk, longest), "32K", () => Read(layer, chunk, 32 * Kilo))
            .Per(longest, 32 * Kilo, "s/token");
    }

    private static Comparison PeakMemory(Setting setting, long longest) =>
        PeakMemory(setting, ($"{longest / Kilo}K", Workload.Stream, longest), ("64K", Workload.Stream, 64 * Kilo));

    private static Comparison NormMemory(Setting setting) =>
        PeakMemory(setting, ("with", Workload.StreamWithNorm, 64 * Kilo), ("without", Workload.Stream, 64 * Kilo));

    private static Comparison PeakMemory(Setting setting, (string Name, Workload Workload, long Tokens) above, (string Name, Workload Workload, long Tokens) below)
    {
        var rounds = setting.IsQuick ? 1 : 9; // the peak of a process varies by several per cent, whatever it does
        var (peaksAbove, peaksBelow) = (new double[rounds], new double[rounds]);
        for (var round = 0; round < rounds; round++)
        {
            peaksAbove[round] = JobProcess.Start(above.Workload, above.Tokens, setting.DeviceName).PeakBytes;
            peaksBelow[round] = JobProcess.Start(below.Workload, below.Tokens, setting.DeviceName).PeakBytes;
        }

        return new(new(above.Name, peaksAbove), new(below.Name, peaksBelow), "B");
    }

    private static Comparison StepsByPosition(Setting setting, long position)
    {
        var (layer, chunk) = setting.LayerAndInput(ChunkTokens, LayerShape.Short);
        using var noGrad = no_grad();
        using SegmentStreamer far = new(layer), near = new(layer);
        Read(far, chunk, position);
        Read(near, chunk, 4 * Kilo);
        var (token, steps) = (chunk.narrow(1, 0, 1), 4 * layer.Options.SegmentLength);
        return setting.Clock
            .Compare($"at {position / Kilo}K", () => Step(far, token, steps), "at 4K", () => Step(near, token, steps))
            .Per(steps, steps, "s/step");
    }

    /// <summary>Runs whole segments, so that the mean includes the cost of writing one to the memory.</summary>
    private static Comparison StepsOverCache(Setting setting, LayerShape shape, bool isFull)
    {
        var (layer, chunk) = setting.LayerAndInput(ChunkTokens, shape);
        using var noGrad = no_grad();
        using var streamer = new SegmentStreamer(layer);
        using var cached = new CachedAttention(new(layer), 1, isFull);
        Read(streamer, chunk, ChunkTokens);
        var (token, steps) = (chunk.narrow(1, 0, 1), Math.Max(shape.SegmentLength, 512));
        return setting.Clock
            .Compare("streamer", () => Step(streamer, token, steps), "cache", () => Step(cached, token, steps))
            .Per(steps, steps, "s/step");
    }

    private static void Step(SegmentStreamer streamer, Tensor token, long steps)
    {
        for (var step = 0; step < steps; step++)
        {
            streamer.Forward(token).Dispose();
        }
    }

    private static void Step(CachedAttention cached, Tensor token, long steps)
    {
        for (var step = 0; step < steps; step++)
        {
            cached.Step(token).Dispose();
        }
    }
}
