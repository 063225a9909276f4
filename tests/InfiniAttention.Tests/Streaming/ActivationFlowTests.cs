using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Requests that share threads, as in a server: an activation belongs to one computation on one thread, and no other computation sees its memory.</summary>
public class ActivationFlowTests
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 };

    /// <summary>While a request awaits, its thread can run other requests.</summary>
    [Fact]
    public void A_request_that_awaits_inside_its_activation_shares_its_memory_with_no_other() => OnNewThread(() =>
    {
        using var mode = no_grad();
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(1, 7, 8), fresh = layer.call(x);
        using SegmentStreamer first = new(layer), second = new(layer);
        var answer = new TaskCompletionSource();
        Task request = Request(layer, first, x, answer.Task);
        Assert.Equal(7, first.Position);

        Assert.Null(SegmentStreamer.Current);
        IsRefused("await", () => layer.call(x));
        Difference.Close(fresh, second.Forward(x), 0, "another stream");
        Tensor expected = second.Fork().Forward(x);
        using (second.Activate())
        {
            Assert.Same(second, SegmentStreamer.Current);
            Difference.Close(expected, layer.call(x), 0, "another activation");
        }

        Assert.Null(SegmentStreamer.Current);
        IsRefused("await", () => layer.call(x));
        Assert.Equal(7, first.Position);

        answer.SetResult(); // the request continues here, on its first thread
        Assert.True(request.IsCompletedSuccessfully);
        Assert.Equal(14, first.Position);
        Difference.Close(fresh, layer.call(x), 0, "afterwards");
    });

    [Fact]
    public void A_request_that_continues_on_another_thread_is_refused_and_its_first_thread_is_free() => OnNewThread(() =>
    {
        using var mode = no_grad();
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(1, 7, 8), fresh = layer.call(x);
        using var first = new SegmentStreamer(layer);
        var answer = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task request = Request(layer, first, x, answer.Task);

        answer.SetResult();
        var error = Assert.Throws<AggregateException>(request.Wait);
        Assert.Contains("another thread", Assert.IsType<InvalidOperationException>(error.InnerException).Message, StringComparison.Ordinal);
        Assert.Equal(7, first.Position);
        Difference.Close(fresh, layer.call(x), 0, "the next request on the first thread");
        using var whole = new SegmentStreamer(layer);
        Difference.Close(whole.Forward(cat([x, x], 1)).narrow(1, 7, 7), first.Forward(x), 1e-6, "the stream can be continued");
    });

    [Fact]
    public void Other_streams_run_on_other_threads_inside_an_activation()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(1, 7, 8);
        double[] expected = Difference.Numbers(layer.call(x));
        using SegmentStreamer active = new(layer), other = new(layer);
        using (active.Activate())
        {
            OnNewThread(() =>
            {
                Assert.Null(SegmentStreamer.Current);
                Assert.Equal(expected, Difference.Numbers(other.Forward(x)));
            });
            Assert.Same(active, SegmentStreamer.Current);
        }
    }

    private static async Task Request(InfiniAttentionModule layer, SegmentStreamer streamer, Tensor x, Task answer)
    {
        using var activation = streamer.Activate();
        layer.call(x);
        await answer.ConfigureAwait(false);
        layer.call(x);
    }

    private static void IsRefused(string word, Action action) =>
        Assert.Contains(word, Assert.Throws<InvalidOperationException>(action).Message, StringComparison.Ordinal);

    /// <summary>Runs an action without the test runner's synchronisation context, so that continuations run on a known thread.</summary>
    private static void OnNewThread(Action action)
    {
        Exception? error = null;
        var thread = new Thread(() => error = Record.Exception(() =>
        {
            using var scope = NewDisposeScope();
            action();
        }));
        thread.Start();
        thread.Join();
        Assert.Null(error);
    }
}
