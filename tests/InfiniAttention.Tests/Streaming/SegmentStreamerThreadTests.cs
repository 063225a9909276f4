using System.Collections.Concurrent;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Any number of streams, on any number of threads, share one model in evaluation.</summary>
public class SegmentStreamerThreadTests
{
    private const int Threads = 5;
    private const int StreamsPerThread = 3;
    private const int Steps = 24;

    private static readonly LayerCase Case = new()
    {
        Batch = 1,
        Length = 3,
        HeadsPerGroup = 2,
        Update = MemoryUpdate.Delta,
        Rotary = RotaryPairing.Interleaved,
    };

    [Fact]
    public void Interleaved_streams_on_several_threads_equal_those_of_one_thread()
    {
        using var scope = NewDisposeScope();
        var model = new LayerStack(Case, 2);
        model.eval();
        double[][] expected = [.. Enumerable.Range(0, Threads).SelectMany(t => Run(model, t))];
        var results = new ConcurrentDictionary<int, double[][]>();
        var errors = new ConcurrentQueue<Exception>();
        using var barrier = new Barrier(Threads);
        Thread[] threads = [.. Enumerable.Range(0, Threads).Select(t => new Thread(() =>
        {
            try
            {
                barrier.SignalAndWait();
                results[t] = Run(model, t);
            }
            catch (Exception error)
            {
                errors.Enqueue(error);
            }
        }))];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        Assert.Empty(errors);
        double[][] actual = [.. Enumerable.Range(0, Threads).SelectMany(t => results[t])];
        for (int i = 0; i < expected.Length; i++)
        {
            Difference.Close(tensor(expected[i]), tensor(actual[i]), 1e-12, $"stream {i}");
        }
    }

    /// <summary>Runs several streams that take turns, each with its own inputs, and returns their outputs.</summary>
    private static double[][] Run(LayerStack model, int thread)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        SegmentStreamer[] streamers = [.. Enumerable.Range(0, StreamsPerThread).Select(_ => new SegmentStreamer(model))];
        var outputs = streamers.Select(_ => new List<double>()).ToArray();
        for (int step = 0; step < Steps; step++)
        {
            for (int s = 0; s < StreamsPerThread; s++)
            {
                using var inner = NewDisposeScope();
                LayerCase one = Case with { Seed = 1000 * thread + 100 * s + step, Length = 1 + (step + s) % 5 };
                outputs[s].AddRange(Difference.Numbers(streamers[s].Forward(one.Input().detach())));
                Assert.Null(SegmentStreamer.Current);
            }
        }

        foreach (SegmentStreamer streamer in streamers)
        {
            streamer.Dispose();
        }

        return [.. outputs.Select(o => o.ToArray())];
    }
}
