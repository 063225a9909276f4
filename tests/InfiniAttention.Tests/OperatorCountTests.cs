#if TORCH_SUBSET
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>
/// Operator calls grow with the number of blocks, not of segments, under the linear rule, and by two small products per segment
/// more under the delta rule.
/// </summary>
public class OperatorCountTests(ITestOutputHelper output)
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
    public void Within_a_block_the_linear_rule_makes_as_many_calls_for_any_number_of_segments(string kind)
    {
        long[] calls = [.. Segments.Select(s => Calls(Cases[kind], s, blockSegments: 64))];
        output.WriteLine($"{kind}, linear, one block of {string.Join('/', Segments)} segments: {string.Join('/', calls)} calls");
        Assert.All(calls, count => Assert.Equal(calls[0], count));
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Under_the_linear_rule_calls_grow_with_the_number_of_blocks_alone(string kind)
    {
        foreach (int blockSegments in new[] { 2, 4, 8 })
        {
            long[] calls = [.. Enumerable.Range(1, 5).Select(blocks => Calls(Cases[kind], blocks * blockSegments, blockSegments))];
            output.WriteLine($"{kind}, linear, 1/2/3/4/5 blocks of {blockSegments} segments: {string.Join('/', calls)} calls");
            long[] perBlock = [.. calls.Skip(1).Zip(calls.Skip(2), (a, b) => b - a)];
            Assert.All(perBlock, count => Assert.Equal(perBlock[0], count));
            Assert.Equal(calls[4] - calls[3], Calls(Cases[kind], 5 * 16, 16) - Calls(Cases[kind], 4 * 16, 16));
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void The_delta_rule_makes_at_most_two_calls_per_segment_more(string kind)
    {
        LayerCase delta = Cases[kind] with { Update = MemoryUpdate.Delta };
        long[] calls = [.. Segments.Select(s => Calls(delta, s, blockSegments: 64))];
        output.WriteLine($"{kind}, delta, one block of {string.Join('/', Segments)} segments: {string.Join('/', calls)} calls");
        for (int i = 1; i < Segments.Length; i++)
        {
            Assert.InRange(calls[i] - calls[i - 1], 0, 2 * (Segments[i] - Segments[i - 1]));
        }
    }

    private static long Calls(LayerCase kind, int segments, int blockSegments)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        LayerCase one = kind with { BlockSegments = blockSegments, Length = segments * kind.Segment };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        TokenInfo? info = one.Info();
        layer.ForwardFrom(null, x, info).State.Dispose(); // makes the table of the rotary embedding
        return OperatorCount.Of(() => layer.ForwardFrom(null, x, info).State.Dispose());
    }
}
#endif
