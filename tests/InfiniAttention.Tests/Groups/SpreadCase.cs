using FsCheck;
using FsCheck.Fluent;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A case whose tokens are cut at multiples of the segment length into a stretch for each rank; the last is often ragged.</summary>
/// <param name="Case">The case.</param>
/// <param name="Ends">Where each stretch ends.</param>
internal sealed record SpreadCase(LayerCase Case, int[] Ends)
{
    public static Arbitrary<SpreadCase> Any { get; } = Arb.From(from size in Gen.Choose(1, 4) from one in OfSize(size) select one);

    public int Size => Ends.Length;

    public static Gen<SpreadCase> OfSize(int size) =>
        from one in LayerCase.Generator
        from wholes in Gen.ArrayOf(Gen.Choose(1, 3), size - 1)
        from last in Gen.Choose(1, (3 * one.Segment) + 1)
        select Cut(one, wholes, last);

    /// <summary>The whole sequence as the ranks have computed it: outputs side by side, gradients of parameters added.</summary>
    public static LayerRun Joined(LayerRun[] ranks)
    {
        var gradients = ranks[0].Gradients.Keys.ToDictionary(name => name, name => IsOfTokens(name)
            ? cat([.. ranks.Select(rank => rank.Gradients[name])], 1)
            : ranks.Select(rank => rank.Gradients[name]).Aggregate((a, b) => a + b));
        return ranks[^1] with { Output = cat([.. ranks.Select(rank => rank.Output)], 1), Gradients = gradients };
    }

    /// <summary>Whether a gradient is of the tokens of a stretch, not of what all ranks share.</summary>
    public static bool IsOfTokens(string name) => name is "input" or "write weights";

    /// <summary>The tokens of a rank.</summary>
    public (int Start, int Length) Part(int rank) => (rank == 0 ? 0 : Ends[rank - 1], Ends[rank] - (rank == 0 ? 0 : Ends[rank - 1]));

    public LayerRun OfRank(ISequenceGroup group) => OfRank(group, null);

    /// <summary>What a rank computes with its own copy of the layer and its part of the input.</summary>
    public LayerRun OfRank(ISequenceGroup group, MemoryState? start, ScalarType type = ScalarType.Float64) => Run(Part(group.Rank), start, type, group);

    /// <summary>What one process computes.</summary>
    public LayerRun Alone(MemoryState? start, ScalarType type = ScalarType.Float64) => Run((0, Case.Length), start, type, null);

    public override string ToString() => $"{Case}, stretches to [{string.Join(',', Ends)}]";

    private static SpreadCase Cut(LayerCase one, int[] wholes, int last)
    {
        var ends = new List<int>();
        foreach (int segments in wholes)
        {
            ends.Add(ends.LastOrDefault() + (segments * one.Segment));
        }

        ends.Add(ends.LastOrDefault() + last);
        return new(one with { Length = ends[^1] }, [.. ends]);
    }

    private LayerRun Run((int Start, int Length) part, MemoryState? start, ScalarType type, ISequenceGroup? group)
    {
        InfiniAttentionModule layer = Case.Layer();
        layer.to(type);
        Tensor x = Leaf(Case.Input().narrow(1, part.Start, part.Length));
        TokenInfo? info = Case.Info().Part(part.Start, part.Length);
        Tensor? writes = info?.WriteWeights is { } weights ? Leaf(weights) : null;
        info = info is null ? null : new() { KeyPaddingMask = info.KeyPaddingMask, DocumentStarts = info.DocumentStarts, WriteWeights = writes };
        using MemoryState? before = start?.To(type);
        before?.Memory.requires_grad_(true);
        before?.Normalizer.requires_grad_(true);
        (Tensor y, MemoryState state) = group is null ? layer.ForwardFrom(before, x, info) : layer.ForwardFrom(before, x, group, info);
        Assert.Equal((start?.Position ?? 0) + part.Start + part.Length, state.Position);

        var draw = new Draw(Case.Seed + 3);
        Tensor loss = (y * draw.Normal(1, Case.Batch, Case.Length, Case.EmbedDim).narrow(1, part.Start, part.Length).to(type)).sum();
        if (part.Start + part.Length == Case.Length)
        {
            loss = loss + (state.Memory * draw.Normal(1, state.Memory.shape).to(type)).sum() + (state.Normalizer * draw.Normal(1, state.Normalizer.shape).to(type)).sum();
        }

        loss.backward();
        var leaves = layer.named_parameters().ToDictionary(p => p.name, p => (Tensor)p.parameter);
        leaves["input"] = x;
        if (writes is not null)
        {
            leaves["write weights"] = writes;
        }

        if (before is not null)
        {
            (leaves["memory before"], leaves["normalizer before"]) = (before.Memory, before.Normalizer);
        }

        return new(y, state.Memory, state.Normalizer, leaves.ToDictionary(l => l.Key, l => (l.Value.grad ?? zeros_like(l.Value)).clone()));

        Tensor Leaf(Tensor values) => values.detach().to(type, copy: true).requires_grad_(true);
    }
}
