using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Resetting, selecting, repeating and permuting rows of a stream; resetting, forking, detaching and moving whole streams.</summary>
public class SegmentStreamerRowsTests
{
    private const double Tolerance = 1e-12;

    private static readonly LayerCase Case = new()
    {
        Batch = 3,
        Length = 10,
        HeadsPerGroup = 2,
        Update = MemoryUpdate.Delta,
        Rotary = RotaryPairing.Halves,
        Padding = true,
    };

    [Fact]
    public void Selected_rows_continue_as_they_were()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (LayerStack _, SegmentStreamer streamer, Tensor x) = Start();
        SegmentStreamer all = streamer.Fork();
        Tensor rows = tensor(new long[] { 2, 2, 0, 1, 2 });
        streamer.SelectRows(rows);
        Tensor expected = all.Forward(x).index_select(0, rows);
        Difference.Close(expected, streamer.Forward(x.index_select(0, rows)), Tolerance, "repeated and permuted rows");

        Tensor one = tensor(new long[] { 3 });
        streamer.SelectRows(one);
        Difference.Close(
            all.Forward(x).narrow(0, 1, 1), streamer.Forward(x.narrow(0, 1, 1)), Tolerance, "a single row");
        Assert.Equal(30, streamer.Position);
    }

    [Fact]
    public void Repeated_rows_are_independent()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (LayerStack _, SegmentStreamer streamer, Tensor x) = Start();
        streamer.SelectRows(tensor(new long[] { 1, 1 }));
        Tensor different = cat([x.narrow(0, 1, 1), x.narrow(0, 1, 1) * -1], 0);
        SegmentStreamer alone = streamer.Fork();
        alone.SelectRows(tensor(new long[] { 1 }));
        Tensor both = cat([.. streamer.Stream(different), streamer.Forward(different)], 1);
        using SegmentStreamer other = alone.Fork();
        foreach ((SegmentStreamer single, int row) in new[] { (alone, 0), (other, 1) })
        {
            Tensor own = different.narrow(0, row, 1);
            Difference.Close(cat([single.Forward(own), single.Forward(own)], 1), both.narrow(0, row, 1), Tolerance, $"copy {row} of the row");
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(8)]
    public void A_reset_row_starts_afresh_and_the_others_continue(int tokens)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new LayerStack(Case, 2);
        Tensor x = Case.Input().detach();
        using SegmentStreamer streamer = new(model), marked = new(model);
        if (tokens > 0)
        {
            _ = streamer.Forward(x.narrow(1, 0, tokens));
            _ = marked.Forward(x.narrow(1, 0, tokens));
        }

        streamer.ResetRows(tensor(new[] { true, false, true }));
        Tensor starts = zeros(3, 10, dtype: ScalarType.Bool);
        starts.select(1, 0).copy_(tensor(new[] { true, false, true }));
        Tensor y = streamer.Forward(x);
        Difference.Close(marked.Forward(x, new TokenInfo { DocumentStarts = starts }), y, Tolerance, "reset rows against a document start");
        if (tokens % 4 == 0)
        {
            Difference.Close(model.call(x).narrow(0, 2, 1), y.narrow(0, 2, 1), Tolerance, "a reset row against a new stream");
        }
    }

    [Fact]
    public void Reset_begins_a_new_stream_of_any_batch_size()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (LayerStack model, SegmentStreamer streamer, Tensor x) = Start();
        streamer.Reset();
        Assert.Equal(0, streamer.Position);
        Assert.Equal(0, streamer.StateBytes);
        Tensor fewer = x.narrow(0, 0, 2);
        Difference.Close(model.call(fewer), streamer.Forward(fewer), Tolerance, "output after reset");
    }

    [Fact]
    public void A_fork_and_its_origin_are_independent()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (LayerStack _, SegmentStreamer streamer, Tensor x) = Start();
        streamer.WindowTokens = 8;
        SegmentStreamer reference = streamer.Fork(), fork = streamer.Fork();
        Assert.Equal(streamer.Position, fork.Position);
        Assert.Equal(8, fork.WindowTokens);
        Tensor token = x.narrow(1, 0, 1);
        for (int i = 0; i < 9; i++)
        {
            _ = fork.Forward(token * -1);
            Difference.Close(reference.Forward(token), streamer.Forward(token), 0, $"step {i} beside a fork with other input");
        }

        streamer.Dispose();
        _ = fork.Forward(token);
        Assert.Equal(20, fork.Position);
    }

    [Fact]
    public void Detach_stops_the_gradient()
    {
        using var scope = NewDisposeScope();
        var model = new LayerStack(Case, 1);
        using var streamer = new SegmentStreamer(model);
        Tensor early = Case.Input(), late = Case.Input();
        _ = streamer.Forward(early);
        SegmentStreamer attached = streamer.Fork();
        streamer.Detach();
        streamer.Forward(late).sum().backward();
        Assert.Null(early.grad);
        attached.Forward(late).sum().backward();
        Assert.NotNull(early.grad);
    }

    [Fact]
    public void A_stream_moved_to_its_own_device_continues_unchanged()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (LayerStack _, SegmentStreamer streamer, Tensor x) = Start();
        SegmentStreamer reference = streamer.Fork();
        streamer.To(CPU);
        Difference.Close(reference.Forward(x), streamer.Forward(x), 0, "continuation");
    }

    [Fact]
    public void All_of_these_calls_work_on_a_stream_that_has_not_begun()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new LayerStack(Case, 2);
        using var streamer = new SegmentStreamer(model);
        streamer.Detach();
        streamer.ResetRows(tensor(new[] { true }));
        streamer.SelectRows(tensor(new long[] { 0 }));
        streamer.To(CPU);
        using SegmentStreamer fork = streamer.Fork();
        Tensor x = Case.Input().detach();
        Difference.Close(model.call(x), fork.Forward(x), Tolerance, "output");
    }

    /// <summary>A stream of three rows after ten tokens.</summary>
    private static (LayerStack Model, SegmentStreamer Streamer, Tensor Input) Start()
    {
        var model = new LayerStack(Case, 2);
        var streamer = new SegmentStreamer(model);
        Tensor x = Case.Input().detach();
        _ = streamer.Forward(x, Case.Info());
        return (model, streamer, x);
    }
}
