using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace LongContext.Generate;

/// <summary>Draws tokens from logits: by temperature, from the most probable tokens that together have the probability top-p.</summary>
/// <param name="temperature">What logits are divided by; 0 for always the most probable token.</param>
/// <param name="topP">In (0, 1].</param>
/// <param name="seed">The seed of what is drawn.</param>
public sealed class Sampler(double temperature, double topP, int seed)
{
    private readonly Random random = new(seed);

    /// <summary>A sampler that takes the most probable token.</summary>
    public static Sampler Greedy() => new(temperature: 0, topP: 1, seed: 0);

    /// <summary>A token by its logits, of any shape.</summary>
    public long Next(Tensor logits)
    {
        using var scope = NewDisposeScope();
        return Next(MemoryMarshal.Cast<byte, float>(logits.detach().to(float32).cpu().contiguous().bytes));
    }

    /// <summary>A token by its logits.</summary>
    public long Next(ReadOnlySpan<float> logits)
    {
        var largest = 0;
        for (var token = 1; token < logits.Length; token++)
        {
            largest = logits[token] > logits[largest] ? token : largest;
        }

        if (temperature == 0)
        {
            return largest;
        }

        var (tokens, weights) = (new int[logits.Length], new double[logits.Length]);
        var sum = 0.0;
        for (var token = 0; token < logits.Length; token++)
        {
            (tokens[token], weights[token]) = (token, Math.Exp((logits[token] - logits[largest]) / temperature));
            sum += weights[token];
        }

        if (topP < 1)
        {
            Array.Sort(weights, tokens, Comparer<double>.Create((a, b) => b.CompareTo(a)));
            sum = Nucleus(ref weights, topP * sum);
        }

        var drawn = random.NextDouble() * sum;
        var chosen = 0;
        for (var before = weights[0]; before <= drawn && chosen < weights.Length - 1; before += weights[chosen])
        {
            chosen++;
        }

        return tokens[chosen];
    }

    /// <summary>Keeps the fewest of the largest weights, which are first, that add up to a share; returns their sum.</summary>
    private static double Nucleus(ref double[] weights, double share)
    {
        var (count, sum) = (0, 0.0);
        while (count < weights.Length && sum < share)
        {
            sum += weights[count++];
        }

        weights = weights[..count];
        return sum;
    }
}
