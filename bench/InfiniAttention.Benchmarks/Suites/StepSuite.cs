using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>One token at a time, beside a plain layer with a key/value cache; what a step allocates on the managed heap is in the table.</summary>
public class StepSuite : TorchSuite
{
    private SegmentStreamer streamer = null!;
    private CachedAttention cached = null!;
    private Tensor token = null!;

    [Params(128, 2048)]
    public int N { get; set; }

    [Params(256, 512)]
    public int D { get; set; }

    [Benchmark(Baseline = true)]
    public void CachedAttention() => cached.Step(token).Dispose();

    [Benchmark]
    public void Streamer() => streamer.Forward(token).Dispose();

    protected override void Prepare()
    {
        var layer = Own(new InfiniAttentionModule(new() { EmbedDim = D, NumHeads = D / 64, SegmentLength = N }));
        streamer = Own(new SegmentStreamer(layer));
        cached = Own(new CachedAttention(new(layer), 1, true));
        token = randn(1, 1, D);
        streamer.Forward(randn(1, 2 * N, D)).Dispose();
    }
}
