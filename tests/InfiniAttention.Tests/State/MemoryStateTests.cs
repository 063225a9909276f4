using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The state that is passed between calls: its shapes, its rows, its independence.</summary>
public class MemoryStateTests
{
    private const double Tolerance = 1e-12;

    private static readonly LayerCase Case = new()
    {
        Batch = 3,
        Length = 10,
        HeadsPerGroup = 2,
        ValueDim = 3,
        Update = MemoryUpdate.Delta,
        Rotary = RotaryPairing.Halves,
    };

    [Fact]
    public void Its_shapes_position_and_bytes_are_those_of_the_layer()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        MemoryState state = layer.ForwardFrom(null, Case.Input()).State;
        Assert.Equal([3, 2, 4, 3], state.Memory.shape);
        Assert.Equal([3, 2, 4], state.Normalizer.shape);
        Assert.Equal(10, state.Position);
        long memory = 3 * 2 * (4 * 3 + 4) * sizeof(double);
        long openSegment = 3 * 2 * 2 * (4 + 3) * sizeof(double);
        Assert.InRange(state.Bytes, memory + openSegment, memory + 5 * openSegment);
    }

    [Fact]
    public void Its_size_does_not_grow_with_the_stream()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input();
        MemoryState state = layer.ForwardFrom(null, x).State;
        long bytes = state.Bytes;
        for (int i = 0; i < 10; i++)
        {
            state = layer.ForwardFrom(state, x.narrow(1, 0, 8)).State;
            Assert.Equal(bytes, state.Bytes);
        }

        Assert.Equal(90, state.Position);
    }

    [Fact]
    public void A_given_state_stays_valid_so_that_streams_can_branch()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input().detach();
        MemoryState state = layer.ForwardFrom(null, x).State;
        double[] memory = Difference.Numbers(state.Memory);
        (Tensor first, MemoryState after) = layer.ForwardFrom(state, x);
        after.Dispose();
        _ = layer.ForwardFrom(state, x * 2);
        Difference.Close(first, layer.ForwardFrom(state, x).Output, 0, "the same continuation again");
        Assert.Equal(memory, Difference.Numbers(state.Memory));
        Assert.Equal(10, state.Position);
    }

    [Fact]
    public void A_clone_lives_on_when_the_original_is_disposed_of()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input().detach();
        MemoryState state = layer.ForwardFrom(null, x).State;
        MemoryState clone = state.Clone();
        Tensor expected = layer.ForwardFrom(state, x).Output;
        state.Dispose();
        Assert.Equal(10, clone.Position);
        Difference.Close(expected, layer.ForwardFrom(clone, x).Output, 0, "continuation of the clone");
        Assert.Throws<ObjectDisposedException>(() => layer.ForwardFrom(state, x));
    }

    [Fact]
    public void A_clone_keeps_the_graph_and_Detach_cuts_it()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input(), next = Case.Input().detach();
        MemoryState state = layer.ForwardFrom(null, x).State;
        Assert.True(state.Memory.requires_grad);
        Assert.True(state.Clone().Memory.requires_grad);
        Assert.False(state.Detach().Memory.requires_grad);
        Assert.False(state.Detach().Normalizer.requires_grad);

        layer.ForwardFrom(state.Detach(), next).Output.sum().backward();
        Assert.Null(x.grad);
        layer.ForwardFrom(state, next).Output.sum().backward();
        Assert.NotNull(x.grad);
        Assert.True(Difference.Numbers(x.grad).Chunk((int)Case.EmbedDim).All(token => token.Any(g => g != 0)), "every token must get a gradient");
    }

    [Fact]
    public void Selecting_rows_repeats_drops_and_permutes_them()
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input().detach();
        MemoryState state = layer.ForwardFrom(null, x).State;
        Tensor rows = tensor(new long[] { 2, 0, 2, 2 });
        MemoryState selected = state.SelectRows(rows);
        Difference.Close(state.Memory.index_select(0, rows), selected.Memory, 0, "memory");
        Assert.Equal(state.Position, selected.Position);
        Tensor all = layer.ForwardFrom(state, x).Output;
        Tensor some = layer.ForwardFrom(selected, x.index_select(0, rows)).Output;
        Difference.Close(all.index_select(0, rows), some, Tolerance, "continuation of the selected rows");
    }

    [Theory]
    [InlineData(8)]
    [InlineData(10)]
    public void Rows_that_are_reset_continue_as_after_a_document_start(int position)
    {
        using var scope = NewDisposeScope();
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input().detach(), next = (Case with { Seed = 5, Length = 11 }).Input().detach();
        MemoryState state = layer.ForwardFrom(null, x.narrow(1, 0, position)).State;
        Tensor rows = tensor(new[] { false, true, false });
        (Tensor y, MemoryState final) = layer.ForwardFrom(state.ResetRows(rows), next);

        Tensor starts = zeros(3, 11, dtype: ScalarType.Bool);
        starts.select(0, 1).narrow(0, 0, 1).fill_(true);
        (Tensor expected, MemoryState expectedFinal) = layer.ForwardFrom(state, next, new TokenInfo { DocumentStarts = starts });
        Difference.Close(expected, y, Tolerance, "output");
        Difference.Close(expectedFinal.Memory, final.Memory, Tolerance, "memory");

        if (position == 8)
        {
            Tensor row = tensor(new long[] { 1 });
            Tensor fresh = layer.forward(next.index_select(0, row));
            Difference.Close(fresh, y.index_select(0, row), Tolerance, "the row that was reset, against a new stream");
        }
    }

    [Fact]
    public void To_its_own_device_gives_an_equal_state()
    {
        using var scope = NewDisposeScope();
        MemoryState state = Case.Layer().ForwardFrom(null, Case.Input()).State;
        MemoryState moved = state.To(CPU);
        state.Dispose();
        Assert.Equal(10, moved.Position);
        Assert.Equal([3, 2, 4, 3], moved.Memory.shape);
    }

    [Fact]
    public void Bad_rows_are_refused()
    {
        using var scope = NewDisposeScope();
        MemoryState state = Case.Layer().ForwardFrom(null, Case.Input()).State;
        BadInput.IsRefused(() => state.SelectRows(tensor(new[] { 0.5 })), "indices", "Float64", "Int64");
        BadInput.IsRefused(() => state.SelectRows(tensor(new long[] { 0, 3 })), "indices", "3");
        BadInput.IsRefused(() => state.SelectRows(tensor(new long[] { -1 })), "indices", "-1");
        BadInput.IsRefused(() => state.SelectRows(zeros(1, 1, dtype: ScalarType.Int64)), "indices");
        BadInput.IsRefused(() => state.ResetRows(tensor(new[] { true })), "rows", "1", "3");
        BadInput.IsRefused(() => state.ResetRows(tensor(new long[] { 0, 1, 2 })), "rows", "Int64", "Bool");
        Assert.Throws<ArgumentNullException>(() => state.SelectRows(null!));
        Assert.Throws<ArgumentNullException>(() => state.ResetRows(null!));
        Assert.Throws<ArgumentNullException>(() => state.To(null!));
        state.Dispose();
        state.Dispose();
        Assert.Throws<ObjectDisposedException>(() => state.Clone());
    }
}
