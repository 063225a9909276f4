using System.Diagnostics;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Times work on one device: a measurement ends when the device has done it.</summary>
/// <param name="device">Where the work runs.</param>
/// <param name="budget">How long the rounds of one comparison may take together.</param>
/// <param name="leastRounds">The least number of rounds, even if they take longer.</param>
internal sealed class Stopclock(Device device, TimeSpan budget, int leastRounds)
{
    private const int MostRounds = 101;

    /// <summary>Seconds that one run of the work takes.</summary>
    public double Time(Action work)
    {
        Synchronize();
        var start = Stopwatch.GetTimestamp();
        using (NewDisposeScope())
        {
            work();
        }

        Synchronize();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    /// <summary>Times two things in turn, A B A B, after a warm-up round.</summary>
    public Comparison Compare(string numerator, Action runNumerator, string denominator, Action runDenominator)
    {
        var once = Time(runNumerator) + Time(runDenominator);
        var rounds = Math.Clamp((int)(budget.TotalSeconds / once), leastRounds, MostRounds);
        var (above, below) = (new double[rounds], new double[rounds]);
        for (var round = 0; round < rounds; round++)
        {
            above[round] = Time(runNumerator);
            below[round] = Time(runDenominator);
        }

        return new(new(numerator, above), new(denominator, below), "s");
    }

    private void Synchronize()
    {
        if (device.type == DeviceType.CUDA)
        {
            cuda.synchronize(device);
        }
    }
}
