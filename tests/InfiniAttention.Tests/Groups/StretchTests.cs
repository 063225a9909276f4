using FsCheck;
using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A sequence spread over the ranks of a group against the same sequence in one process.</summary>
public class StretchTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-12;

    /// <summary>A case whose tokens are cut at multiples of the segment length into stretches of one to four ranks; the last is often ragged.</summary>
    private static readonly Arbitrary<(LayerCase Case, int[] Ends)> Spread = Arb.From(
        from one in LayerCase.Generator
        from size in Gen.Choose(1, 4)
        from wholes in Gen.ArrayOf(Gen.Choose(1, 3), size - 1)
        from last in Gen.Choose(1, 3 * one.Segment + 1)
        select Cut(one, wholes, last));

    [Fact]
    public void Outputs_final_state_and_all_gradients_are_those_of_one_process() =>
        Property.Holds(output, Spread, 250, 20, (spread, difference) =>
            Run(spread.Case, spread.Ends).CompareTo(LayerRun.OfLibrary(spread.Case), Tolerance, difference));

    [Fact]
    public void A_state_before_the_sequence_is_continued_and_gets_its_gradient() =>
        Property.Holds(output, Spread, 100, 21, (spread, difference) =>
        {
            (LayerCase one, int[] ends) = spread;
            using InfiniAttentionModule prefix = one.Layer();
            Tensor before = new Draw(one.Seed + 9).Normal(1, one.Batch, 2L * one.Segment, one.EmbedDim);
            using MemoryState start = prefix.ForwardFrom(null, before).State.Detach();
            Run(one, ends, start).CompareTo(Run(one, [one.Length], start), Tolerance, difference);
        });

    private static (LayerCase Case, int[] Ends) Cut(LayerCase one, int[] wholes, int last)
    {
        var ends = new List<int>();
        foreach (int segments in wholes)
        {
            ends.Add(ends.LastOrDefault() + (segments * one.Segment));
        }

        ends.Add(ends.LastOrDefault() + last);
        return (one with { Length = ends[^1] }, [.. ends]);
    }

    /// <summary>Runs a case on as many ranks as there are ends; each has its own copy of the layer and its part of the input.</summary>
    internal static LayerRun Run(LayerCase one, int[] ends, MemoryState? start = null)
    {
        (LayerRun Run, int Start)[] ranks = ThreadGroup.Run(ends.Length, group => OfRank(one, ends, start, group));
        var gradients = ranks[0].Run.Gradients.Keys.ToDictionary(name => name, name => name is "input" or "write weights"
            ? cat([.. ranks.Select(rank => rank.Run.Gradients[name])], 1)
            : ranks.Select(rank => rank.Run.Gradients[name]).Aggregate((a, b) => a + b));
        return ranks[^1].Run with { Output = cat([.. ranks.Select(rank => rank.Run.Output)], 1), Gradients = gradients };
    }

    private static (LayerRun Run, int Start) OfRank(LayerCase one, int[] ends, MemoryState? start, ThreadGroup group)
    {
        InfiniAttentionModule layer = one.Layer();
        int begin = group.Rank == 0 ? 0 : ends[group.Rank - 1], length = ends[group.Rank] - begin;
        Tensor x = one.Input().detach().narrow(1, begin, length).clone().requires_grad_(true);
        TokenInfo? info = one.Info().Part(begin, length);
        Tensor? writes = info?.WriteWeights?.detach().clone().requires_grad_(true);
        info = info is null ? null : new() { KeyPaddingMask = info.KeyPaddingMask, DocumentStarts = info.DocumentStarts, WriteWeights = writes };
        using MemoryState? before = start?.Clone();
        before?.Memory.requires_grad_(true);
        before?.Normalizer.requires_grad_(true);
        (Tensor y, MemoryState state) = layer.ForwardFrom(before, x, group, info);
        Assert.Equal((start?.Position ?? 0) + ends[group.Rank], state.Position);

        var draw = new Draw(one.Seed + 3);
        Tensor loss = (y * draw.Normal(1, one.Batch, one.Length, one.EmbedDim).narrow(1, begin, length)).sum();
        if (group.Rank == group.Size - 1)
        {
            loss = loss + (state.Memory * draw.Normal(1, state.Memory.shape)).sum() + (state.Normalizer * draw.Normal(1, state.Normalizer.shape)).sum();
        }

        loss.backward();
        var leaves = layer.named_parameters().ToDictionary(p => p.name, p => (Tensor)p.parameter);
        leaves["input"] = x;
        if (writes is not null)
        {
            leaves["write weights"] = writes;
        }

        var gradients = leaves.ToDictionary(l => l.Key, l => l.Value.grad ?? zeros_like(l.Value));
        if (before is not null)
        {
            gradients["memory before"] = before.Memory.grad ?? zeros_like(before.Memory);
            gradients["normalizer before"] = before.Normalizer.grad ?? zeros_like(before.Normalizer);
        }

        return (new(y, state.Memory, state.Normalizer, gradients), begin);
    }
}
