using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Dropout applies to the local attention weights, only in training, and keeps their mean.</summary>
public class DropoutTests
{
    private const double Probability = 0.25;

    private static readonly LayerCase Case = new() { Batch = 1, Length = 4 };

    [Fact]
    public void Dropout_is_off_in_evaluation()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule with = Layer(Case), without = Case.Layer();
        Tensor x = Case.Input();
        with.eval();
        without.eval();
        Difference.Close(without.forward(x), with.forward(x), 0, "output in evaluation");
        with.train();
        Assert.NotEqual(Difference.Numbers(without.forward(x)), Difference.Numbers(with.forward(x)));
        with.eval();
        Difference.Close(without.forward(x), with.forward(x), 0, "output in evaluation again");
    }

    [Fact]
    public void The_same_seed_gives_the_same_masks()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Layer(Case);
        layer.train();
        Tensor x = Case.Input();
        manual_seed(1);
        Tensor first = layer.forward(x);
        Tensor other = layer.forward(x);
        manual_seed(1);
        Difference.Close(first, layer.forward(x), 0, "output from the same seed");
        Assert.NotEqual(Difference.Numbers(first), Difference.Numbers(other));
    }

    /// <summary>The first token sees only itself: its weight is 0 or 1 / (1 - p).</summary>
    [Fact]
    public void A_weight_is_dropped_with_the_probability_given_and_scaled_up_otherwise()
    {
        using var scope = NewDisposeScope();
        const int rows = 4000;
        LayerCase one = Case with { KeyValueHeads = 1, ValueDim = 1, EmbedDim = 1, Length = 1 };
        InfiniAttentionModule layer = Layer(one);
        layer.train();
        manual_seed(11);
        Tensor x = ones(rows, 1, 1, dtype: ScalarType.Float64);
        double kept = Difference.Numbers(one.Layer().forward(x))[0] / (1 - Probability);
        double[] outputs = Difference.Numbers(layer.forward(x));
        Assert.All(outputs, y => Assert.True(y == 0 || Math.Abs(y - kept) < 1e-12, $"{y} is neither 0 nor {kept}"));
        double dropped = outputs.Count(y => y == 0) / (double)rows;
        double deviation = Math.Sqrt(Probability * (1 - Probability) / rows);
        Assert.InRange(dropped, Probability - 5 * deviation, Probability + 5 * deviation);
    }

    [Fact]
    public void The_mean_over_many_masks_is_the_output_without_them()
    {
        using var scope = NewDisposeScope();
        const int rows = 20000;
        InfiniAttentionModule layer = Layer(Case);
        layer.train();
        manual_seed(12);
        Tensor x = Case.Input().detach();
        double[] outputs = Difference.Numbers(layer.forward(x.expand(rows, 4, 8).contiguous()));
        double[] expected = Difference.Numbers(Case.Layer().forward(x));
        for (int i = 0; i < expected.Length; i++)
        {
            double[] samples = [.. Enumerable.Range(0, rows).Select(r => outputs[(r * expected.Length) + i])];
            double mean = samples.Average();
            double error = Math.Sqrt(samples.Sum(s => (s - mean) * (s - mean))) / rows;
            Assert.InRange(mean, expected[i] - 5 * error, expected[i] + 5 * error);
        }
    }

    [Fact]
    public void Dropout_does_not_change_the_memory()
    {
        using var scope = NewDisposeScope();
        LayerCase one = Case with { Length = 12 };
        InfiniAttentionModule layer = Layer(one);
        layer.train();
        (Tensor _, MemoryState state) = layer.ForwardFrom(null, one.Input());
        (Tensor _, MemoryState plain) = one.Layer().ForwardFrom(null, one.Input());
        Difference.Close(plain.Memory, state.Memory, 0, "memory");
        Difference.Close(plain.Normalizer, state.Normalizer, 0, "normalizer");
    }

    private static InfiniAttentionModule Layer(LayerCase one) => Layers.With(one.Options() with { Dropout = Probability }, one.Weights());
}
