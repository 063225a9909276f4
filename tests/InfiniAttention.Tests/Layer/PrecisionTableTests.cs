using InfiniAttention.Tests.Oracle;
using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Prints the table of docs/numerics.md: the error of each type against the float64 oracle, by length and rule.</summary>
public class PrecisionTableTests(ITestOutputHelper output)
{
    private const int Segment = 16;

    private static readonly int[] Lengths = [64, 256, 1024, 4096];

    /// <summary>
    /// The oracle gets the weights and inputs rounded to the type, so that only the arithmetic is compared.
    /// Differences are relative to the largest output.
    /// </summary>
    [Fact]
    public void Errors_stay_near_the_rounding_of_the_type_at_every_length()
    {
        output.WriteLine("| type | rule | " + string.Join(" | ", Lengths.Select(l => $"{l} tokens")) + " |");
        output.WriteLine("|---|---|" + string.Concat(Lengths.Select(_ => "---|")));
        foreach (ScalarType type in FloatTypes.All)
        {
            foreach (MemoryUpdate update in Enum.GetValues<MemoryUpdate>())
            {
                List<double> errors = Errors(type, update);
                output.WriteLine($"| {type} | {update} | " + string.Join(" | ", errors.Select(e => $"{e:0.0E+0}")) + " |");
                Assert.All(errors, error => Assert.InRange(error, 0, 20 * FloatTypes.Precision(type)));
            }
        }
    }

    /// <summary>The errors of the last segment's outputs at each length.</summary>
    private static List<double> Errors(ScalarType type, MemoryUpdate update)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var one = new LayerCase { Batch = 1, Length = Lengths[^1], Segment = Segment, KeyValueHeads = 1, HeadDim = 8, ValueDim = 8, Update = update };
        var weights = one.Weights().ToDictionary(w => w.Key, w => w.Value.to_type(type).to_type(ScalarType.Float64));
        Tensor x = one.Input().to_type(type);
        InfiniAttentionModule layer = Layers.With(one.Options(), weights);
        layer.to(type);
        Tensor actual = layer.forward(x);

        var oracle = new OracleAttention(one.Options(), weights);
        OracleRow[] rows = oracle.NewState(1);
        var errors = new List<double>();
        for (int start = 0; start < one.Length; start += Segment)
        {
            double[] expected, memory, normalizer;
            using (NewDisposeScope())
            {
                expected = Difference.Numbers(oracle.Forward(rows, x.narrow(1, start, Segment).to_type(ScalarType.Float64)));
                memory = Difference.Numbers(rows[0].Memory[0]);
                normalizer = Difference.Numbers(rows[0].Normalizer[0]);
            }

            rows[0].ReplaceMemory(tensor(memory).reshape(1, one.HeadDim, one.ValueDim), tensor(normalizer).reshape(1, one.HeadDim));
            if (Lengths.Contains(start + Segment))
            {
                double[] numbers = Difference.Numbers(actual.narrow(1, start, Segment));
                errors.Add(expected.Zip(numbers, (p, q) => Math.Abs(p - q)).Max() / expected.Max(Math.Abs));
            }
        }

        return errors;
    }
}
