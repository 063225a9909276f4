using FsCheck;
using FsCheck.Fluent;

namespace InfiniAttention.Tests;

/// <summary>A model of one to three layers, an input, and where it is cut into calls.</summary>
internal sealed record StreamCase(LayerCase Layer, int Depth, int[] Cuts)
{
    public static Gen<StreamCase> Generator { get; } =
        from layer in LayerCase.Generator
        from depth in Gen.Choose(1, 3)
        from density in Gen.Elements(0.0, 0.1, 0.3, 1.0)
        from chances in Gen.ArrayOf(Gen.Choose(0, 999), layer.Length)
        select new StreamCase(layer, depth, [.. Enumerable.Range(1, layer.Length - 1).Where(t => chances[t] < 1000 * density)]);

    public static Arbitrary<StreamCase> Any { get; } = Arb.From(Generator, Simpler);

    public LayerStack Model() => new(Layer, Depth);

    /// <summary>The pieces between cuts, as start and length.</summary>
    public IEnumerable<(int Start, int Length)> Pieces()
    {
        int[] bounds = [0, .. Cuts, Layer.Length];
        return bounds.Zip(bounds.Skip(1), (start, end) => (start, end - start));
    }

    public override string ToString() => $"{Depth} layers of {Layer}, cut at [{string.Join(',', Cuts)}]";

    private static IEnumerable<StreamCase> Simpler(StreamCase one)
    {
        if (one.Depth > 1)
        {
            yield return one with { Depth = 1 };
        }

        for (int i = 0; i < one.Cuts.Length; i++)
        {
            yield return one with { Cuts = [.. one.Cuts.Where((_, j) => j != i)] };
        }

        foreach (LayerCase layer in LayerCase.Any.Shrinker(one.Layer))
        {
            yield return one with { Layer = layer, Cuts = [.. one.Cuts.Where(c => c < layer.Length)] };
        }
    }
}
