using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>The operations of the memory, over the segments of 4096 tokens.</summary>
/// <remarks>S segments, B batch, G key/value heads, R query heads of each, N tokens of each segment, K key width, V value width.</remarks>
public class MemorySuite : TorchSuite
{
    private const long BlockTokens = 4096;
    private const long HeadWidth = 64;
    private Tensor queries = null!;    // (B, S, G, R, N, K)
    private Tensor keys = null!;       // (B, S, G, N, K)
    private Tensor values = null!;     // (B, S, G, N, V)
    private Tensor memory = null!;     // (B, G, K, V)
    private Tensor normalizer = null!; // (B, G, K)
    private Tensor memories = null!;   // (B, S, G, K, V)
    private Tensor normalizers = null!; // (B, S, G, K)

    [Params(128, 2048)]
    public int N { get; set; }

    [Params(4, 8)]
    public int Heads { get; set; }

    [Benchmark]
    public void FeatureMap() => CompressiveMemory.FeatureMap(keys).Dispose();

    [Benchmark]
    public void Retrieval()
    {
        var (numerator, denominator) = CompressiveMemory.Retrieve(queries, memories, normalizers);
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
        keys = CompressiveMemory.FeatureMap(randn([1, segments, Heads, N, HeadWidth]));
        queries = keys.unsqueeze(3);
        values = randn_like(keys);
        memory = rand(1, Heads, HeadWidth, HeadWidth);
        normalizer = rand(1, Heads, HeadWidth) + N;
        memories = rand([1, segments, Heads, HeadWidth, HeadWidth]);
        normalizers = rand(1, segments, Heads, HeadWidth) + N;
    }

    private void Update(MemoryUpdate rule)
    {
        using var scope = NewDisposeScope();
        var options = new InfiniAttentionOptions { EmbedDim = Heads * HeadWidth, NumHeads = Heads, SegmentLength = N, Update = rule };
        CompressiveMemory.Scan(options, memory, normalizer, keys, values, SegmentMarks.None);
    }
}
