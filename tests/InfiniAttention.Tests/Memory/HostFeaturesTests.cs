using FsCheck;
using FsCheck.Fluent;
using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The passes with gradients against the operators that they replace.</summary>
public class HostFeaturesTests(ITestOutputHelper output)
{
    private sealed record Case(int Seed, int Batch, int Segments, int Length, int Heads, int Group, int Vectors, bool Norm, bool ZeroRow, double Shift);

    /// <summary>One token and several, grouped heads, rows of zeros, features that underflow.</summary>
    private static Arbitrary<Case> Cases { get; } = Arb.From(
        from seed in Gen.Choose(0, int.MaxValue - 1)
        from sizes in Gen.Zip(Gen.Choose(1, 3), Gen.Zip(Gen.Choose(1, 4), Gen.Choose(1, 9)))
        from heads in Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 3))
        from vectors in Gen.Choose(1, 3)
        from flags in Gen.Zip(Gen.Elements(false, true), Gen.Elements(false, true))
        from shift in Gen.Elements(0.0, 0.0, -12.0, -200.0, 30.0)
        select new Case(seed, sizes.Item1, sizes.Item2.Item1, sizes.Item2.Item2, heads.Item1, heads.Item2, vectors, flags.Item1, flags.Item2, shift));

    [Theory]
    [InlineData(ScalarType.Float64, 1e-12)]
    [InlineData(ScalarType.Float32, 1e-5)]
    public void Features_and_their_gradients_equal_the_operators(ScalarType type, double tolerance) => Property.Holds(output, Cases, 150, 404, (one, difference) =>
    {
        var (x, scale) = Leaves(one, type);
        Assert.True(HostFeatures.Takes(x, type));
        Tensor expected = ByOperators(x, scale), actual = HostFeatures.Apply(x, scale);
        difference.Add(expected, actual, tolerance, $"sigma of {one}");

        // A gradient that is not contiguous, as a product of matrices may give it.
        Tensor g = new Draw(one.Seed + 1).Normal(1, actual.size(0), actual.size(2), actual.size(1)).to(type).transpose(1, 2);
        Tensor[] inputs = scale is null ? [x] : [x, scale];
        foreach ((Tensor ofOperators, Tensor ofPasses, string name) in autograd.grad([expected], inputs, [g]).Zip(autograd.grad([actual], inputs, [g]), ["x", "s"]))
        {
            // The norm of a row of zeros multiplies gradients by 1000.
            double size = Math.Max(1, ofOperators.abs().max().to(ScalarType.Float64).item<double>());
            difference.Add(ofOperators / size, ofPasses / size, tolerance, $"gradient of {name} in {one}");
        }
    });

    [Fact]
    public void Gradients_equal_finite_differences() => Property.Holds(output, Cases, 40, 405, (one, difference) =>
    {
        const double Step = 1e-6;
        var (x, scale) = Leaves(one with { Shift = 0, ZeroRow = false }, ScalarType.Float64);
        var draw = new Draw(one.Seed + 1);
        Tensor g = draw.Normal(1, HostFeatures.Apply(x, scale).shape);
        Tensor Loss() => HostFeatures.Apply(x, scale).mul(g).sum();
        Loss().backward();
        foreach ((Tensor input, string name) in scale is null ? [(x, "x")] : new[] { (x, "x"), (scale, "s") })
        {
            Tensor direction = draw.Normal(1, input.shape);
            Tensor expected = (input.grad! * direction).sum();
            using var mode = no_grad();
            input.add_(direction * Step);
            Tensor above = ByOperators(x, scale).mul(g).sum();
            input.sub_(direction * (2 * Step));
            Tensor below = ByOperators(x, scale).mul(g).sum();
            input.add_(direction * Step);
            difference.Add((above - below) / (2 * Step), expected, 1e-6, $"gradient of {name} in {one}");
        }
    });

    [Fact]
    public void They_run_only_with_gradients_on_a_CPU()
    {
        using var scope = NewDisposeScope();
        Tensor heads = zeros([2, 3, 4, 2, 1, 16], requires_grad: true);
        Assert.True(HostFeatures.Takes(heads, ScalarType.Float32));
        Assert.False(HostFeatures.Takes(heads.detach(), ScalarType.Float32), "no gradient is needed");
        Assert.False(HostFeatures.Takes(zeros([2, 3, 4, 2, 1, 15], requires_grad: true), ScalarType.Float32), "a part of a vector");
        Assert.False(HostFeatures.Takes(heads.to(ScalarType.BFloat16), ScalarType.Float32), "another type");
        Assert.False(HostFeatures.Takes(heads.transpose(2, 3), ScalarType.Float32), "gaps");
        using var mode = no_grad();
        Assert.False(HostFeatures.Takes(heads, ScalarType.Float32), "without gradients");
    }

    /// <summary>What a graph holds is freed with it, whether or not it is run; the two gradients that the last run returned are freed by the next call on the thread.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Nothing_is_left_but_the_last_gradients(bool runs)
    {
        using var scope = NewDisposeScope();
        var (x, scale) = Leaves(new Case(1, 2, 3, 4, 2, 2, 2, true, false, 0), ScalarType.Float32);
        void Call()
        {
            using Tensor sigma = HostFeatures.Apply(x, scale);
            using Tensor sum = sigma.sum();
            if (runs)
            {
                sum.backward();
            }
        }

        static long Live() => DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        Call(); // x and s get their gradients
        long before = LiveTensors.Count;
        Call();
        Call();
        Assert.Equal(before + (runs ? 2 : 0), Live());
        HostFeatures.Apply(x, scale).Dispose();
        Assert.Equal(before, Live());
    }

    [Fact]
    public void Several_threads_give_the_same()
    {
        using var scope = NewDisposeScope();
        var (x, scale) = Leaves(new Case(1, 2, 3, 4, 2, 2, 2, true, false, 0), ScalarType.Float32);
        Tensor expected = autograd.grad([ByOperators(x, scale).sum()], [x])[0];
        Parallel.For(0, 8, new() { MaxDegreeOfParallelism = 4 }, _ =>
        {
            for (int i = 0; i < 20; i++)
            {
                using var inner = NewDisposeScope();
                Difference.Close(expected, autograd.grad([HostFeatures.Apply(x, scale).sum()], [x])[0], 1e-5, "on a thread");
            }
        });
    }

    /// <summary>A graph may be run twice, and inputs that are not used get no gradient.</summary>
    [Fact]
    public void A_graph_can_be_run_twice_with_an_input_that_is_not_used()
    {
        using var scope = NewDisposeScope();
        var (x, scale) = Leaves(new Case(1, 2, 3, 4, 2, 2, 2, true, false, 0), ScalarType.Float64);
        Tensor other = ones([2], ScalarType.Float64, requires_grad: true);
        Tensor y = HostFeatures.Apply(x, scale).sum();
        IList<Tensor> first = autograd.grad([y], [x, scale!, other], retain_graph: true, allow_unused: true);
        Tensor[] kept = [first[0].clone(), first[1].clone()];
        IList<Tensor> second = autograd.grad([y], [x, scale!, other], allow_unused: true);
        Difference.Close(kept[0], second[0], 0, "x");
        Difference.Close(kept[1], second[1], 0, "s");
        Difference.Close(kept[0], first[0], 0, "x of the first run, after the second");
        Assert.True(second[2] is null || second[2].IsInvalid);
    }

    [Fact]
    public void Second_derivatives_equal_the_operators()
    {
        using var scope = NewDisposeScope();
        foreach (bool norm in new[] { false, true })
        {
            var (x, scale) = Leaves(new Case(1, 2, 3, 4, 2, 2, 2, norm, false, 0), ScalarType.Float64);
            Difference.Close(Second(ByOperators(x, scale)), Second(HostFeatures.Apply(x, scale)), 1e-12, $"norm {norm}");

            Tensor Second(Tensor sigma) => autograd.grad([autograd.grad([sigma.square().sum()], [x], retain_graph: true, create_graph: true)[0].square().sum()], [x])[0];
        }
    }

    private static Tensor ByOperators(Tensor x, Tensor? scale) =>
        FeatureMap.ApplyToHeads(x, x.dtype, scale is null ? null : heads => NormScales.Scaled(heads, scale));

    private static (Tensor X, Tensor? Scale) Leaves(Case one, ScalarType type)
    {
        var draw = new Draw(one.Seed);
        int vector = type == ScalarType.Float64 ? System.Numerics.Vector<double>.Count : System.Numerics.Vector<float>.Count;
        Tensor x = draw.Normal(2, one.Batch, one.Segments, one.Length, one.Heads, one.Group, one.Vectors * vector) + one.Shift;
        if (one.ZeroRow)
        {
            x.select(2, 0).zero_();
        }

        Tensor scale = draw.Normal(3, (long)one.Heads * one.Group);
        return (x.to(type).detach().requires_grad_(true), one.Norm ? scale.to(type).detach().requires_grad_(true) : null);
    }
}
