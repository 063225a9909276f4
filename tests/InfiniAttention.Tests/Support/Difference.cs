using Xunit.Sdk;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Differences between tensors, relative to the largest expected number if that is above 1.</summary>
internal sealed class Difference
{
    public int Comparisons { get; private set; }

    public double Largest { get; private set; }

    public string LargestOf { get; private set; } = "nothing";

    public static double[] Numbers(Tensor x)
    {
        using var scope = NewDisposeScope();
        return x.detach().cpu().to_type(ScalarType.Float64).contiguous().data<double>().ToArray();
    }

    /// <summary>Fails unless both have the same shape, are finite and differ by at most the tolerance.</summary>
    public static void Close(Tensor expected, Tensor actual, double tolerance, string what) =>
        new Difference().Add(expected, actual, tolerance, what);

    /// <summary>Like <see cref="Close"/>, and remembers the largest difference seen.</summary>
    public void Add(Tensor expected, Tensor actual, double tolerance, string what)
    {
        if (!expected.shape.SequenceEqual(actual.shape))
        {
            throw new XunitException($"{what}: shape ({string.Join(',', actual.shape)}) instead of ({string.Join(',', expected.shape)})");
        }

        double[] e = Numbers(expected), a = Numbers(actual);
        double scale = e.Select(Math.Abs).DefaultIfEmpty(0).Max();
        int worst = Enumerable.Range(0, e.Length).Where(i => !double.IsFinite(a[i])).DefaultIfEmpty(-1).First();
        if (worst >= 0 || !double.IsFinite(scale))
        {
            throw new XunitException($"{what}: not finite, {(worst >= 0 ? $"{a[worst]} at {worst}" : "in the expected tensor")}");
        }

        double error = 0;
        for (int i = 0; i < e.Length; i++)
        {
            double here = Math.Abs(e[i] - a[i]) / Math.Max(1, scale);
            (error, worst) = here > error ? (here, i) : (error, worst);
        }

        Comparisons++;
        if (error > Largest)
        {
            (Largest, LargestOf) = (error, what);
        }

        if (error > tolerance)
        {
            throw new XunitException(
                $"{what}: differs by {error:E2}, more than the allowed {tolerance:E0}: {a[worst]:R} instead of {e[worst]:R} at {worst} of {e.Length}");
        }
    }

    public override string ToString() => $"{Comparisons} comparisons, largest difference {Largest:E2} ({LargestOf})";
}
