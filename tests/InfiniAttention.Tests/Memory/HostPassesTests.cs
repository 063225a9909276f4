using FsCheck;
using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The vectorised passes against the operators that they replace.</summary>
public class HostPassesTests(ITestOutputHelper output)
{
    private sealed record Case(int Seed, int Batch, int Segments, int Length, int Heads, int Group, int Vectors, int ValueVectors, EmptyMemory Empty, bool Norm, double Shift);

    /// <summary>Short and long segments, grouped heads, rows without a memory, features that underflow.</summary>
    private static Arbitrary<Case> Cases { get; } = Arb.From(
        from seed in Gen.Choose(0, int.MaxValue - 1)
        from sizes in Gen.Zip(Gen.Choose(1, 3), Gen.Zip(Gen.Choose(1, 4), Gen.Choose(2, 9)))
        from heads in Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 3))
        from widths in Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 3))
        from empty in Gen.Elements(EmptyMemory.LocalOnly, EmptyMemory.Gated)
        from norm in Gen.Elements(false, true)
        from shift in Gen.Elements(0.0, 0.0, -12.0, -200.0, 30.0)
        select new Case(seed, sizes.Item1, sizes.Item2.Item1, sizes.Item2.Item2, heads.Item1, heads.Item2, widths.Item1, widths.Item2, empty, norm, shift));

    [Fact]
    public void Local_outputs_that_no_span_holds_are_left_to_the_operators()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        Tensor q = zeros([1, 1, 1 << 8, 1, 1, 8]), element = zeros([1, 1, 1, 1, 1, 1]); // expanded, so that nothing is allocated
        Assert.Equal(HostVector.HasExp, HostPasses.TakesMix(q, element.expand(1, 1, 1 << 8, 1, 1, 8)));
        Assert.Equal(HostVector.HasExp, HostPasses.TakesMix(q, element.expand(1, 1, 1 << 8, 1, 1, (1 << 21) - 8)));
        Assert.False(HostPasses.TakesMix(q, element.expand(1, 1, 1 << 8, 1, 1, 1 << 21)), "2 GiB");
    }

    [Theory]
    [InlineData(ScalarType.Float64, 1e-13)]
    [InlineData(ScalarType.Float32, 2e-5)]
    public void Keys_equal_the_operators(ScalarType type, double tolerance) => Property.Holds(output, Cases, 150, 401, (one, difference) =>
    {
        using var mode = no_grad();
        var draw = new Draw(one.Seed);
        var (width, valueWidth) = Widths(one, type);
        Tensor keys = (draw.Normal(2, one.Batch, one.Segments, one.Length, one.Heads, width) + one.Shift).to(type);
        Tensor values = draw.Normal(1, one.Batch, one.Segments, one.Length, one.Heads, valueWidth).to(type);
        Assert.True(HostPasses.Takes(keys, type) && HostPasses.Takes(values, type));
        NormScales? norm = one.Norm ? Layers.Norm(draw, one.Heads, one.Group, valueWidth, type) : null;
        Tensor expected = FeatureMap.ApplyToHeads(keys.unsqueeze(4), type, norm is null ? null : norm.Keys);

        (Tensor sigmaK, Tensor apart, Tensor sums) = HostPasses.Keys(keys, values, norm);
        difference.Add(expected, sigmaK, tolerance, $"sigma(K) of {one}");
        difference.Add(values.transpose(2, 3).reshape(-1, one.Length, valueWidth), apart, 0, $"V of {one}");
        difference.Add(expected.sum(dim: 1).view(one.Batch, one.Segments, one.Heads, width), sums, tolerance, $"the sum of {one}");
    });

    [Theory]
    [InlineData(ScalarType.Float64, 1e-13)]
    [InlineData(ScalarType.Float32, 2e-5)]
    public void Reading_and_mixing_equal_the_operators(ScalarType type, double tolerance) => Property.Holds(output, Cases, 150, 402, (one, difference) =>
    {
        using var mode = no_grad();
        var draw = new Draw(one.Seed);
        var (width, valueWidth) = Widths(one, type);
        Tensor q = (draw.Normal(2, one.Batch, one.Segments, one.Length, one.Heads, one.Group, width) + one.Shift).to(type);
        Tensor local = draw.Normal(1, one.Batch, one.Segments, one.Length, one.Heads, one.Group, valueWidth).to(type);
        Tensor written = draw.Flags(0.8, one.Batch, one.Segments, 1, 1, 1).to(type); // the other segments read an empty memory
        Tensor m = draw.Normal(1, one.Batch, one.Segments, one.Heads, width, valueWidth).to(type) * written;
        Tensor z = draw.Uniform(1, 50, one.Batch, one.Segments, one.Heads, width).to(type) * written.squeeze(4);
        var beta = draw.Normal(2, one.Heads * one.Group).to(type);
        var memory = new CompressiveMemory(m, z, null);
        NormScales? norm = one.Norm ? Layers.Norm(draw, one.Heads, one.Group, valueWidth, type) : null;
        var rule = new ReadRule(one.Empty, norm);
        Tensor expected = GatedMix.Of(beta, local.clone(), memory.Read(q, norm), null, rule);

        Assert.True(HostPasses.Takes(q, type));
        difference.Add(expected, HostPasses.ReadAndMix(q, memory, beta, rule, local), tolerance, $"{one}");
    });

    [Theory]
    [InlineData(ScalarType.Float64, 1e-13)]
    [InlineData(ScalarType.Float32, 1e-5)]
    public void Sums_over_segments_equal_a_cumulative_sum(ScalarType type, double tolerance) => Property.Holds(output, Cases, 100, 403, (one, difference) =>
    {
        using var mode = no_grad();
        var draw = new Draw(one.Seed);
        var (width, valueWidth) = Widths(one, type);
        Tensor initial = draw.Normal(1, one.Batch, one.Heads, width, valueWidth).to(type);
        Tensor added = draw.Normal(1, one.Batch, one.Segments, one.Heads, width, valueWidth).to(type);
        Assert.True(HostPasses.TakesSums(added));
        Tensor sums = cat([initial.unsqueeze(1), added], 1).cumsum(1);
        (Tensor before, Tensor after) = HostPasses.Sums(initial, added);
        difference.Add(sums.narrow(1, 0, one.Segments), before, tolerance, $"before, {one}");
        difference.Add(sums.select(1, one.Segments), after, tolerance, $"after, {one}");
    });

    [Fact]
    public void They_run_only_for_more_than_one_token_on_a_CPU_without_gradients()
    {
        using var scope = NewDisposeScope();
        Tensor keys = zeros([2, 3, 4, 2, 16]);
        Assert.False(HostPasses.Takes(keys, ScalarType.Float32), "with gradients on");
        using var mode = no_grad();
        Assert.True(HostPasses.Takes(keys, ScalarType.Float32));
        Assert.False(HostPasses.Takes(zeros([2, 3, 1, 2, 16]), ScalarType.Float32), "one token");
        Assert.False(HostPasses.Takes(zeros([2, 3, 4, 2, 15]), ScalarType.Float32), "a part of a vector");
        Assert.False(HostPasses.Takes(keys.to(ScalarType.BFloat16), ScalarType.Float32), "another type");
        Assert.False(HostPasses.Takes(keys.transpose(2, 3), ScalarType.Float32), "gaps");
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    public void Any_number_of_threads_gives_the_same(int threads)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(7);
        var layer = new InfiniAttentionModule(new() { EmbedDim = 64, NumHeads = 4, SegmentLength = 16 });
        Tensor x = randn(2, 100, 64);
        int before = get_num_threads();
        try
        {
            set_num_threads(1);
            Tensor expected = layer.forward(x);
            set_num_threads(threads);
            Difference.Close(expected, layer.forward(x), 1e-6, $"{threads} threads");
        }
        finally
        {
            set_num_threads(before);
        }
    }

    private static (int Width, int ValueWidth) Widths(Case one, ScalarType type)
    {
        int vector = type == ScalarType.Float64 ? System.Numerics.Vector<double>.Count : System.Numerics.Vector<float>.Count;
        return (one.Vectors * vector, one.ValueVectors * vector);
    }
}
