using FsCheck;
using FsCheck.Fluent;
using InfiniAttention.Tests.Oracle;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A memory that the caller makes is read from the first token on: at position 0 too, with gradients and without, however the sequence is cut.</summary>
public class InitialMemoryTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-9;

    private static readonly Arbitrary<(LayerCase Case, int Cut)> WithCut = Arb.From(
        from one in LayerCase.Generator
        where one.Length > 1
        from cut in Gen.Choose(1, one.Length - 1)
        select (one, cut));

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void It_is_read_as_the_oracle_reads_it_however_the_sequence_is_cut(bool gradients) => Property.Holds(output, WithCut, 100, 40, (cut, difference) =>
    {
        LayerCase one = cut.Case;
        using var mode = set_grad_enabled(gradients);
        (Tensor m, Tensor z) = Memory(one);
        var oracle = new OracleAttention(one.Options(), one.Weights());
        OracleRow[] rows = oracle.NewState(one.Batch);
        for (int b = 0; b < one.Batch; b++)
        {
            rows[b].Begin(m[b], z[b]);
        }

        Tensor expected = oracle.Forward(rows, one.Input(), one.Info());
        foreach (int[] cuts in new int[][] { [], [cut.Cut], [.. Enumerable.Range(1, one.Length - 1)] })
        {
            using var given = new MemoryState(m, z, 0);
            (Tensor y, MemoryState after) = Read(one, given, cuts);
            string where = $"cut at {cuts.Length} places";
            difference.Add(expected, y, Tolerance, $"output, {where}");
            difference.Add(OracleAttention.Memory(rows), after.Memory, Tolerance, $"memory, {where}");
            difference.Add(OracleAttention.Normalizer(rows), after.Normalizer, Tolerance, $"normalizer, {where}");
        }
    });

    [Fact]
    public void The_gradient_of_the_memory_does_not_depend_on_the_cut() => Property.Holds(output, WithCut, 60, 41, (cut, difference) =>
    {
        LayerCase one = cut.Case;
        (Tensor m, Tensor z) = Memory(one);
        Tensor[] whole = Gradients([]), inTwo = Gradients([cut.Cut]);
        difference.Add(whole[0], inTwo[0], Tolerance, "gradient of the memory");
        difference.Add(whole[1], inTwo[1], Tolerance, "gradient of the normalizer");

        Tensor[] Gradients(int[] cuts)
        {
            var given = new MemoryState(m, z, 0);
            Tensor[] leaves = [given.Memory.requires_grad_(true), given.Normalizer.requires_grad_(true)];
            (Tensor y, MemoryState after) = Read(one, given, cuts);
            LayerRun.Probe(one.Seed, y, after.Memory, after.Normalizer).backward();
            return [.. leaves.Select(leaf => (leaf.grad ?? zeros_like(leaf)).masked_fill(z.eq(0).reshape(leaf.dim() == 3 ? z.shape : [.. z.shape, 1]), 0))];
        }
    });

    [Theory]
    [InlineData(EmptyMemory.LocalOnly)]
    [InlineData(EmptyMemory.Gated)]
    public void It_stays_one_through_every_operation_on_a_state(EmptyMemory empty)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var one = new LayerCase { Seed = 42, Batch = 2, Length = 3, Segment = 4, EmptyMemory = empty };
        (Tensor m, Tensor z) = Memory(one);
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        var given = new MemoryState(m, z, 0);
        Tensor expected = layer.ForwardFrom(given, x).Output, without = layer.forward(x);
        Assert.True((expected - without).abs().max().item<double>() > 1e-3, "the memory must matter");
        string path = Path.GetTempFileName();
        try
        {
            foreach ((string name, MemoryState state) in AfterEachOperation(given, path))
            {
                Difference.Close(expected, layer.ForwardFrom(state, x).Output, 0, $"after {name}");
            }
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Theory]
    [InlineData(EmptyMemory.LocalOnly)]
    [InlineData(EmptyMemory.Gated)]
    public void No_memory_stays_none_through_every_operation_on_a_state(EmptyMemory empty)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        LayerCase one = new() { Seed = 43, Batch = 2, Length = 3, Segment = 8, HeadDim = 8, ValueDim = 8, EmptyMemory = empty };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        MemoryState begun = layer.ForwardFrom(null, x).State;
        Tensor expected = layer.ForwardFrom(begun, x).Output;
        string path = Path.GetTempFileName();
        try
        {
            foreach ((string name, MemoryState state) in AfterEachOperation(begun, path))
            {
                Assert.True(state.Matrix.IsEmpty, name);
                Difference.Close(expected, layer.ForwardFrom(state, x).Output, 0, $"after {name}");
            }
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>M and z of which nothing was written by the layer; about every third row has none.</summary>
    private static (Tensor M, Tensor Z) Memory(LayerCase one)
    {
        var draw = new Draw(one.Seed + 7);
        Tensor none = draw.Flags(0.3, one.Batch, 1, 1);
        none[0] = false;
        return (
            draw.Normal(1, one.Batch, one.KeyValueHeads, one.HeadDim, one.ValueDim).masked_fill(none.unsqueeze(-1), 0),
            draw.Uniform(0.5, 2, one.Batch, one.KeyValueHeads, one.HeadDim).masked_fill(none, 0));
    }

    private static (Tensor Output, MemoryState After) Read(LayerCase one, MemoryState given, int[] cuts)
    {
        InfiniAttentionModule layer = one.Layer();
        (Tensor x, TokenInfo? info) = (one.Input(), one.Info());
        var outputs = new List<Tensor>();
        MemoryState state = given;
        int start = 0;
        foreach (int end in cuts.Append(one.Length))
        {
            (Tensor y, state) = layer.ForwardFrom(state, x.narrow(1, start, end - start), info.Part(start, end - start));
            outputs.Add(y);
            start = end;
        }

        return (cat(outputs, 1), state);
    }

    /// <summary>The state after each operation that keeps what it holds, among them a file.</summary>
    private static IEnumerable<(string Name, MemoryState State)> AfterEachOperation(MemoryState state, string path)
    {
        state.Save(path);
        return
        [
            ("Clone", state.Clone()), ("Detach", state.Detach()), ("To(device)", state.To(CPU)), ("To(type)", state.To(ScalarType.Float64)),
            ("SelectRows", state.SelectRows(tensor(new long[] { 0, 1 }))), ("ResetRows", state.ResetRows(zeros(2, @bool))), ("Load", MemoryState.Load(path)),
        ];
    }
}
