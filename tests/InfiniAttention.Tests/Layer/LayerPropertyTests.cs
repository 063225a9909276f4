using FsCheck;
using FsCheck.Fluent;
using InfiniAttention.Tests.Oracle;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The library against the oracle over random shapes, rules, masks and lengths.</summary>
public class LayerPropertyTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-9;

    private static readonly Arbitrary<(LayerCase Case, int Cut)> WithCut = Arb.From(
        from one in LayerCase.Generator
        where one.Length > 1
        from cut in Gen.Choose(1, one.Length - 1)
        select (one, cut));

    [Fact]
    public void Values_state_and_all_gradients_equal_those_of_the_oracle() =>
        Property.Holds(output, LayerCase.Any, 250, 20240407, (one, difference) =>
            LayerRun.OfLibrary(one).CompareTo(LayerRun.OfOracle(one), Tolerance, difference));

    [Fact]
    public void Cutting_a_sequence_into_two_calls_anywhere_changes_nothing() =>
        Property.Holds(output, WithCut, 150, 1, (cut, difference) =>
            LayerRun.OfLibrary(cut.Case, cut.Cut).CompareTo(LayerRun.OfLibrary(cut.Case), Tolerance, difference));

    [Fact]
    public void One_token_per_call_changes_nothing() =>
        Property.Holds(output, LayerCase.Any, 40, 2, (one, difference) =>
            LayerRun.OfLibrary(one, [.. Enumerable.Range(1, one.Length - 1)]).CompareTo(LayerRun.OfLibrary(one), Tolerance, difference));

    [Fact]
    public void The_gradient_of_an_initial_state_equals_that_of_the_oracle() =>
        Property.Holds(output, WithCut, 100, 3, (cut, difference) =>
        {
            (LayerCase one, int at) = cut;
            Tensor x = one.Input().detach();
            TokenInfo? before = one.Info().Part(0, at), after = one.Info().Part(at, one.Length - at);
            Tensor start = x.narrow(1, 0, at), rest = x.narrow(1, at, one.Length - at);

            InfiniAttentionModule layer = one.Layer();
            MemoryState state = layer.ForwardFrom(null, start, before).State.Detach();
            state.Memory.requires_grad_(true);
            state.Normalizer.requires_grad_(true);
            (Tensor y, MemoryState final) = layer.ForwardFrom(state, rest, after);
            LayerRun.Probe(one.Seed, y, final.Memory, final.Normalizer).backward();

            var oracle = new OracleAttention(one.Options(), one.Weights());
            OracleRow[] rows = oracle.NewState(one.Batch);
            _ = oracle.Forward(rows, start, before);
            (Tensor memory, Tensor normalizer) = OracleAttention.MakeLeaf(rows);
            Tensor expected = oracle.Forward(rows, rest, after);
            LayerRun.Probe(one.Seed, expected, OracleAttention.Memory(rows), OracleAttention.Normalizer(rows)).backward();

            difference.Add(expected, y, Tolerance, "output");
            // A row to which nothing was written has no memory to read, so its gradient is undefined and is left out.
            Tensor written = (normalizer.detach() > 0).to_type(ScalarType.Float64);
            difference.Add(
                Gradient(memory) * written.unsqueeze(-1), Gradient(state.Memory) * written.unsqueeze(-1), Tolerance, "gradient of the initial memory");
            difference.Add(
                Gradient(normalizer) * written, Gradient(state.Normalizer) * written, Tolerance, "gradient of the initial normalizer");
        });

    private static Tensor Gradient(Tensor leaf) => leaf.grad ?? zeros_like(leaf);
}
