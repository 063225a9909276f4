using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>
/// A call creates one tensor per operator. Their number grows with the number of blocks, and with the number of segments only by
/// the recurrence of M and z: a slice and a sum of each, plus a product under the delta rule, whatever a segment's length.
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
        ["norms"] = new LayerCase { Norm = true, OwnMemoryProjections = true },
        ["everything"] = new LayerCase
        {
            HeadsPerGroup = 2,
            Rotary = RotaryPairing.Halves,
            Padding = true,
            Documents = true,
            WriteWeights = true,
            Bias = true,
        },
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Within_a_block_only_the_recurrence_grows_with_the_number_of_segments(string kind)
    {
        foreach ((MemoryUpdate update, int perSegment) in new[] { (MemoryUpdate.Linear, 4), (MemoryUpdate.Delta, 8) })
        {
            LayerCase one = Cases[kind] with { Update = update };
            long[] created = [.. Segments.Select(s => Created(one, s, blockSegments: 64))];
            output.WriteLine($"{kind}, {update}, one block of {string.Join('/', Segments)} segments: {string.Join('/', created)} tensors");
            int forgetting = one.Documents ? 3 : 1;
            for (int i = 1; i < Segments.Length; i++)
            {
                Assert.InRange(created[i] - created[i - 1], 0, forgetting * perSegment * (Segments[i] - Segments[i - 1]));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Every_block_creates_as_many_tensors_as_the_one_before(string kind)
    {
        foreach (int blockSegments in new[] { 2, 4, 8 })
        {
            long[] created = [.. Enumerable.Range(1, 5).Select(blocks => Created(Cases[kind], blocks * blockSegments, blockSegments))];
            output.WriteLine($"{kind}, linear, 1/2/3/4/5 blocks of {blockSegments} segments: {string.Join('/', created)} tensors");
            long[] perBlock = [.. created.Skip(1).Zip(created.Skip(2), (a, b) => b - a)];
            Assert.All(perBlock, count => Assert.Equal(perBlock[0], count));
        }
    }

    [Fact]
    public void The_length_of_a_segment_does_not_matter()
    {
        long[] created = [.. new[] { 2, 8, 32 }.Select(length => Created(new LayerCase { Segment = length }, 8, blockSegments: 8))];
        output.WriteLine($"8 segments of 2/8/32 tokens: {string.Join('/', created)} tensors");
        Assert.All(created, count => Assert.Equal(created[0], count));
    }

    private static long Created(LayerCase kind, int segments, int blockSegments)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        LayerCase one = kind with { BlockSegments = blockSegments, Length = segments * kind.Segment };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        TokenInfo? info = one.Info();
        layer.ForwardFrom(null, x, info).State.Dispose(); // the first call creates the rotary table
        return CreatedTensors.By(() => layer.ForwardFrom(null, x, info).State.Dispose());
    }
}
