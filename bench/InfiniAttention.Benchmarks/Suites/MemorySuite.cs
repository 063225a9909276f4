using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>The operations of the memory, over the segments of 4096 tokens.</summary>
/// <remarks>S segments, B batch, G key/value heads, R query heads of each, N tokens of each segment, K key width, V value width.</remarks>
public class MemorySuite : TorchSuite
{
    private const long BlockTokens = 4096;
    private const long HeadWidth = 64;
    private Tensor queries = null!;    // (B, S, N, G, R, K)
    private SegmentTokens tokens = null!;
    private Tensor memory = null!;     // (B, G, K, V)
    private Tensor normalizer = null!; // (B, G, K)
    private CompressiveMemory memories = null!;

    [Params(128, 2048)]
    public int N { get; set; }

    [Params(4, 8)]
    public int Heads { get; set; }

    [Benchmark]
    public void Features() => FeatureMap.Apply(tokens.Keys).Dispose();

    [Benchmark]
    public void Retrieval()
    {
        var (numerator, denominator) = memories.Read(queries);
        numerator.Dispose();
        denominator.Dispose();
    }

    [Benchmark]
    public void LinearUpdate() => Update(MemoryUpdate.Linear);

    [Benchmark]
    public void DeltaUpdate() => Update(MemoryUpdate.Delta);

    protected override void Prepare()
    {
        var segments = BlockTokens / N;
        var keys = randn([1, segments, N, Heads, HeadWidth]);
        queries = keys.unsqueeze(4);
        tokens = new(keys, randn_like(keys), SegmentMarks.None);
        memory = rand(1, Heads, HeadWidth, HeadWidth);
        normalizer = rand(1, Heads, HeadWidth) + N;
        memories = new(rand([1, segments, Heads, HeadWidth, HeadWidth]), rand(1, segments, Heads, HeadWidth) + N, null);
    }

    private void Update(MemoryUpdate rule)
    {
        using var scope = NewDisposeScope();
        CompressiveMemory.Write(UpdateRule.Of(rule, DeltaNormalizer.BeforeSegment), memory, normalizer, tokens);
    }
}
