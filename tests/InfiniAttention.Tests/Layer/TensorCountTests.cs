using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>
/// The tensors that a call creates, one for each operator, grow with the number of blocks, not of segments, under the linear rule, and by three small tensors per segment
/// more under the delta rule.
/// </summary>
public class TensorCountTests(ITestOutputHelper output)
{
    private static readonly int[] Segments = [4, 8, 16, 32, 64];

    public static TheoryData<string> Kinds => [.. Cases.Keys];

    private static Dictionary<string, LayerCase> Cases { get; } = new()
    {
        ["plain"] = new LayerCase(),
        ["grouped"] = new LayerCase { HeadsPerGroup = 2 },
        ["rotary"] = new LayerCase { Rotary = RotaryPairing.Interleaved },
        ["padded"] = new LayerCase { Padding = true },
        ["packed"] = new LayerCase { Documents = true },
        ["everything"] = new LayerCase
        {
            HeadsPerGroup = 2, Rotary = RotaryPairing.Halves, Padding = true, Documents = true, WriteWeights = true, Bias = true,
        },
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Within_a_block_the_linear_rule_creates_as_many_tensors_for_any_number_of_segments(string kind)
    {
        long[] created = [.. Segments.Select(s => Created(Cases[kind], s, blockSegments: 64))];
        output.WriteLine($"{kind}, linear, one block of {string.Join('/', Segments)} segments: {string.Join('/', created)} tensors");
        Assert.All(created, count => Assert.Equal(created[0], count));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Under_the_linear_rule_tensors_grow_with_the_number_of_blocks_alone(string kind)
    {
        foreach (int blockSegments in new[] { 2, 4, 8 })
        {
            long[] created = [.. Enumerable.Range(1, 5).Select(blocks => Created(Cases[kind], blocks * blockSegments, blockSegments))];
            output.WriteLine($"{kind}, linear, 1/2/3/4/5 blocks of {blockSegments} segments: {string.Join('/', created)} tensors");
            long[] perBlock = [.. created.Skip(1).Zip(created.Skip(2), (a, b) => b - a)];
            Assert.All(perBlock, count => Assert.Equal(perBlock[0], count));
            Assert.Equal(created[4] - created[3], Created(Cases[kind], 5 * 16, 16) - Created(Cases[kind], 4 * 16, 16));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_delta_rule_creates_at_most_three_tensors_per_segment_more(string kind)
    {
        LayerCase delta = Cases[kind] with { Update = MemoryUpdate.Delta };
        long[] created = [.. Segments.Select(s => Created(delta, s, blockSegments: 64))];
        output.WriteLine($"{kind}, delta, one block of {string.Join('/', Segments)} segments: {string.Join('/', created)} tensors");
        for (int i = 1; i < Segments.Length; i++)
        {
            Assert.InRange(created[i] - created[i - 1], 0, 3 * (Segments[i] - Segments[i - 1]));
        }
    }

    private static long Created(LayerCase kind, int segments, int blockSegments)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        LayerCase one = kind with { BlockSegments = blockSegments, Length = segments * kind.Segment };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        TokenInfo? info = one.Info();
        layer.ForwardFrom(null, x, info).State.Dispose(); // makes the table of the rotary embedding
        return CreatedTensors.By(() => layer.ForwardFrom(null, x, info).State.Dispose());
    }
}
