using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>One token at a time: the open segment's buffers are allocated once, and a step costs the same at every position.</summary>
public class SegmentStreamerStepTests(ITestOutputHelper output)
{
    public static TheoryData<MemoryUpdate, bool> RulesAndRotary => new()
    {
        { MemoryUpdate.Linear, false },
        { MemoryUpdate.Linear, true },
        { MemoryUpdate.Delta, false },
        { MemoryUpdate.Delta, true },
    };

    [Theory]
    [MemberData(nameof(RulesAndRotary))]
    public void A_step_leaves_nothing_but_its_output(MemoryUpdate update, bool rotary)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, Tensor token) = Start(update, rotary);
        for (int segment = 0; segment < 5; segment++)
        {
            streamer.Forward(token).Dispose(); // allocates the segment's buffers
            for (int i = 1; i < 7; i++)
            {
                Tensor? y = null;
                Assert.Equal(1, LiveTensors.LeftBy(() => y = streamer.Forward(token)));
                y!.Dispose();
            }

            Assert.True(LiveTensors.LeftBy(() => streamer.Forward(token).Dispose()) < 0, "the buffers of a whole segment must be freed");
        }

        streamer.Forward(token).Dispose();

        long live = LiveTensors.Count;
        streamer.Dispose();
        Assert.True(LiveTensors.Count < live, "the streamer must free its state");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Changing_the_mask_and_weights_after_a_call_changes_nothing(bool gradients)
    {
        using var scope = NewDisposeScope();
        using var mode = set_grad_enabled(gradients);
        var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        using SegmentStreamer reused = new(layer), fresh = new(layer);
        var (mask, weights) = (ones(1, 1, @bool), full([1, 1], 0.25f));
        for (int token = 0; token < 9; token++)
        {
            var x = randn(1, 1, 8);
            mask.fill_(token % 3 == 0);
            weights.fill_(token / 8.0);
            Tensor expected = fresh.Forward(x, new TokenInfo { KeyPaddingMask = mask.clone(), WriteWeights = weights.clone() });
            Difference.Close(expected, reused.Forward(x, new TokenInfo { KeyPaddingMask = mask, WriteWeights = weights }), 0, $"token {token}");
        }
    }

    [Theory]
    [MemberData(nameof(RulesAndRotary))]
    public void The_state_has_one_size_while_a_segment_is_open_and_a_smaller_one_at_its_end(MemoryUpdate update, bool rotary)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, Tensor token) = Start(update, rotary);
        long[] sizes = [.. Enumerable.Range(0, 40).Select(_ =>
        {
            streamer.Forward(token).Dispose();
            return streamer.StateBytes;
        })];
        long withoutOpenSegment = sizes[7];
        Assert.True(withoutOpenSegment < sizes[0]);
        Assert.All(sizes.Select((size, i) => (size, i)), step => Assert.Equal(step.i % 8 == 7 ? withoutOpenSegment : sizes[0], step.size));
        Assert.Equal(48, streamer.Position);
    }

    [Theory]
    [MemberData(nameof(RulesAndRotary))]
    public void The_open_segment_is_appended_in_place(MemoryUpdate update, bool rotary)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, Tensor token) = Start(update, rotary);
        for (int segment = 0; segment < 5; segment++)
        {
            streamer.Forward(token).Dispose();
            IntPtr[] buffers = Buffers();
            for (int i = 1; i < 7; i++)
            {
                streamer.Forward(token).Dispose();
                Assert.Equal(buffers, Buffers());
            }

            streamer.Forward(token).Dispose();
        }

        // While the segment is open, each of its buffers must stay the same native tensor.
        IntPtr[] Buffers() => [.. streamer.States.Current.SelectMany(state => state!.Open!.Tensors).Select(tensor => tensor.Handle)];
    }

    /// <summary>One position is beyond the range of 32 bits.</summary>
    [Theory]
    [InlineData(10_000_000)]
    [InlineData(8L << 32)]
    public void A_step_at_any_position_gives_the_same_output_and_costs_the_same(long position)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        foreach ((MemoryUpdate update, bool rotary) in new[] { (MemoryUpdate.Linear, true), (MemoryUpdate.Delta, false) })
        {
            (SegmentStreamer near, Tensor token) = Start(update, rotary);
            SegmentStreamer far = near.Fork();
            far.States.Set([.. far.States.Current.Select(s => new MemoryState(s!.Memory, s.Normalizer, position))]);
            for (int i = 0; i < 20; i++)
            {
                Tensor? nearOutput = null, farOutput = null;
                long nearCreated = CreatedTensors.By(() => nearOutput = near.Forward(token)), farCreated = CreatedTensors.By(() => farOutput = far.Forward(token));
                Difference.Close(nearOutput!, farOutput!, 0, $"step {i}");
                Assert.Equal(nearCreated, farCreated);
            }

            Assert.Equal(position + 20, far.Position);
            Assert.Equal(near.StateBytes, far.StateBytes);
            output.WriteLine($"{update}: 20 steps at position {position} equal those at 8 bit for bit, with {far.StateBytes} bytes of state");
        }
    }

    [Theory]
    [MemberData(nameof(RulesAndRotary))]
    public void A_step_creates_a_fixed_number_of_tensors(MemoryUpdate update, bool rotary)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        (SegmentStreamer streamer, Tensor token) = Start(update, rotary);
        long[] Segment() => [.. Enumerable.Range(0, 8).Select(_ => CreatedTensors.By(() => streamer.Forward(token).Dispose()))];

        Segment();
        long[] early = Segment();
        output.WriteLine($"{update}{(rotary ? ", rotary" : "")}, two layers: {string.Join('/', early)} tensors");
        Assert.All(early[1..^1], count => Assert.Equal(early[1], count));
        for (int segment = 0; segment < 10; segment++)
        {
            Assert.Equal(early, Segment());
        }
    }

    /// <summary>A stream at the beginning of its second segment of 8.</summary>
    private static (SegmentStreamer Streamer, Tensor Token) Start(MemoryUpdate update, bool rotary)
    {
        var one = new LayerCase { Segment = 8, Length = 8, HeadsPerGroup = 2, Update = update, Rotary = rotary ? RotaryPairing.Halves : null };
        Tensor x = one.Input().detach();
        var streamer = new SegmentStreamer(new LayerStack(one, depth: 2));
        streamer.Forward(x).Dispose();
        return (streamer, x.narrow(1, 0, 1));
    }
}
