using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Random tensors from a generator outside libtorch, so that a case does not depend on what the library draws.</summary>
internal sealed class Draw(int seed)
{
    private readonly Random random = new(seed);

    public int Int(int below) => random.Next(below);

    public Tensor Normal(double deviation, params long[] shape) => Fill(shape, () => deviation * Gaussian());

    public Tensor Uniform(double low, double high, params long[] shape) => Fill(shape, () => low + (high - low) * random.NextDouble());

    public Tensor Flags(double probability, params long[] shape)
    {
        using Tensor numbers = Uniform(0, 1, shape);
        return numbers < probability;
    }

    /// <summary>Tokens of a vocabulary, as int64.</summary>
    public Tensor Tokens(int vocabulary, params long[] shape)
    {
        using Tensor numbers = Fill(shape, () => random.Next(vocabulary));
        return numbers.to_type(ScalarType.Int64);
    }

    private static Tensor Fill(long[] shape, Func<double> next)
    {
        double[] numbers = new double[shape.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < numbers.Length; i++)
        {
            numbers[i] = next();
        }

        using Tensor flat = tensor(numbers);
        return flat.reshape(shape).clone();
    }

    private double Gaussian() =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
