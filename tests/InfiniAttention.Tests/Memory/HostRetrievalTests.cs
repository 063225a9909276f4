using FsCheck;
using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>One-token retrieval in managed code against equations 7 and 10 in tensor operators.</summary>
public class HostRetrievalTests(ITestOutputHelper output)
{
    private sealed record Case(int Seed, int Batch, int Heads, int Group, int Width, int ValueWidth, EmptyMemory Empty, bool Norm, double Shift);

    /// <summary>Widths below and above a vector's, rows without a memory, features that underflow.</summary>
    private static Arbitrary<Case> Cases { get; } = Arb.From(
        from seed in Gen.Choose(0, int.MaxValue - 1)
        from sizes in Gen.Zip(Gen.Choose(1, 3), Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 3)))
        from widths in Gen.Zip(Gen.Choose(1, 37), Gen.Choose(1, 37))
        from empty in Gen.Elements(EmptyMemory.LocalOnly, EmptyMemory.Gated)
        from norm in Gen.Elements(false, true)
        from shift in Gen.Elements(0.0, 0.0, -12.0, -200.0, 30.0)
        select new Case(seed, sizes.Item1, sizes.Item2.Item1, sizes.Item2.Item2, widths.Item1, widths.Item2, empty, norm, shift));

    [Fact]
    public void It_equals_the_equations_in_float64() => Check(ScalarType.Float64, 1e-13, 301);

    [Fact]
    public void It_equals_the_equations_in_float32() => Check(ScalarType.Float32, 2e-5, 302);

    [Fact]
    public void It_runs_only_for_one_token_on_a_CPU_without_gradients()
    {
        using var scope = NewDisposeScope();
        Tensor q = zeros([2, 1, 1, 3, 2, 4]), memory = zeros(2, 3, 4, 5), normalizer = zeros(2, 3, 4);
        Assert.False(Takes(q, memory), "with gradients on");
        using var mode = no_grad();
        Assert.True(Takes(q, memory));
        Assert.False(Takes(zeros([2, 1, 2, 3, 2, 4]), memory), "two tokens");
        Assert.False(Takes(zeros([2, 2, 1, 3, 2, 4]), memory), "two segments of one token");
        Assert.False(Takes(q.to(ScalarType.BFloat16), memory), "another type");
        Assert.False(Takes(zeros([2, 1, 1, 2, 3, 4]).transpose(3, 4), memory), "queries with gaps");
        Assert.False(Takes(q, zeros(2, 3, 5, 4).transpose(2, 3)), "a memory with gaps");
        Assert.False(Takes(q, zeros(2, 3, 4, 1 << 16)), "a large memory");

        bool Takes(Tensor queries, Tensor m) => HostRetrieval.Takes(queries, CompressiveMemory.Unchanged(m, normalizer));
    }

    private void Check(ScalarType type, double tolerance, ulong seed) => Property.Holds(output, Cases, 200, seed, (one, difference) =>
    {
        using var mode = no_grad();
        var draw = new Draw(one.Seed);
        var (queries, keys) = (one.Heads * one.Group, one.Batch * one.Heads);
        Tensor q = (draw.Normal(2, one.Batch, 1, 1, one.Heads, one.Group, one.Width) + one.Shift).to(type);
        Tensor written = draw.Flags(0.8, one.Batch, 1, 1, 1).to(type); // the other rows hold nothing
        Tensor memory = draw.Normal(1, one.Batch, one.Heads, one.Width, one.ValueWidth).to(type) * written;
        Tensor normalizer = draw.Uniform(1, 50, one.Batch, one.Heads, one.Width).to(type) * written.squeeze(3);
        Tensor gate = draw.Normal(2, queries).to(type);
        Tensor local = draw.Normal(1, one.Batch, 1, 1, one.Heads, one.Group, one.ValueWidth).to(type);

        NormScales? norm = one.Norm ? Layers.Norm(draw, one.Heads, one.Group, one.ValueWidth, type) : null;
        Tensor sigma = FeatureMap.Apply(norm?.Queries(q) ?? q).view(keys, one.Group, one.Width);
        Tensor numerator = sigma.bmm(memory.view(keys, one.Width, one.ValueWidth)).view(local.shape);
        Tensor denominator = sigma.bmm(normalizer.view(keys, one.Width, 1)).view(one.Batch, 1, 1, one.Heads, one.Group, 1);
        Tensor found = (denominator > 0).to(type);
        Tensor share = gate.sigmoid().view(1, 1, 1, one.Heads, one.Group, 1);
        Tensor localShare = 1 - (one.Empty == EmptyMemory.LocalOnly ? found * share : share);
        Tensor read = numerator / (denominator + (1 - found));
        if (norm is not null)
        {
            read = read * norm.ReadWeight.view(one.Heads, one.Group, one.ValueWidth) / (read.square().mean([-1], keepdim: true) + 1e-6).sqrt();
        }

        Tensor expected = (local * localShare) + (found * share * read);

        var before = CompressiveMemory.Unchanged(memory, normalizer);
        Assert.True(HostRetrieval.Takes(q, before));
        difference.Add(expected, HostRetrieval.Mix(q, before, gate, new(one.Empty, norm), local), tolerance, $"{one}");
    });
}
