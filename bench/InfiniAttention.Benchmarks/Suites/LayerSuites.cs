using BenchmarkDotNet.Attributes;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>The forward pass by shape, rule and type.</summary>
public class ForwardSuite : TorchSuite
{
    private InfiniAttentionModule layer = null!;
    private Tensor x = null!;

    [Params(128, 2048)]
    public int N { get; set; }

    [Params(256, 512)]
    public int D { get; set; }

    [Params(4, 8)]
    public int Heads { get; set; }

    [Params(MemoryUpdate.Linear, MemoryUpdate.Delta)]
    public MemoryUpdate Rule { get; set; }

    [Params(ScalarType.Float32, ScalarType.BFloat16)]
    public ScalarType Type { get; set; }

    [Benchmark]
    public void Layer() => layer.call(x).Dispose();

    protected override void Prepare()
    {
        layer = Own(new InfiniAttentionModule(new() { EmbedDim = D, NumHeads = Heads, SegmentLength = N, Update = Rule }, dtype: Type));
        x = randn([1, Tokens, D], Type);
    }
}

/// <summary>The forward pass beside its baselines.</summary>
public class BaselineSuite : TorchSuite
{
    private InfiniAttentionModule layer = null!;
    private Tensor x = null!;
    private UnavoidableKernels kernels = null!;
    private PaperLiteralLoop literal = null!;
    private FusedLoop fused = null!;
    private CausalAttention causal = null!;

    [Params(128, 2048)]
    public int N { get; set; }

    [Params(256, 512)]
    public int D { get; set; }

    [Benchmark(Baseline = true)]
    public void Layer() => layer.call(x).Dispose();

    [Benchmark]
    public void Kernels() => kernels.Run();

    [Benchmark]
    public void LoopWithFusedAttention() => fused.Forward(x).Dispose();

    [Benchmark]
    public void LoopAsInThePaper() => literal.Forward(x).Dispose();

    [Benchmark]
    public void CausalAttention() => causal.Forward(x).Dispose();

    protected override void Prepare()
    {
        layer = Own(new InfiniAttentionModule(new() { EmbedDim = D, NumHeads = D / 64, SegmentLength = N }));
        x = randn(1, Tokens, D);
        var weights = new LayerWeights(layer);
        kernels = new(weights, x, BlockSize.Segments(layer.Options, x) * N);
        (literal, fused, causal) = (new(weights), new(weights), new(weights));
    }
}

/// <summary>Forward and backward beside the loops and plain attention.</summary>
public class TrainingSuite : TorchSuite
{
    private InfiniAttentionModule layer = null!;
    private Tensor x = null!;
    private Tensor gradient = null!;
    private PaperLiteralLoop literal = null!;
    private FusedLoop fused = null!;
    private CausalAttention causal = null!;

    [Params(128, 2048)]
    public int N { get; set; }

    [Params(256, 512)]
    public int D { get; set; }

    protected override bool WantsGradients => true;

    [Benchmark(Baseline = true)]
    public void Layer() => Train(layer.call);

    [Benchmark]
    public void LoopWithFusedAttention() => Train(fused.Forward);

    [Benchmark]
    public void LoopAsInThePaper() => Train(literal.Forward);

    [Benchmark]
    public void CausalAttention() => Train(causal.Forward);

    protected override void Prepare()
    {
        layer = Own(new InfiniAttentionModule(new() { EmbedDim = D, NumHeads = D / 64, SegmentLength = N }));
        x = randn(1, Tokens, D, requires_grad: true);
        gradient = randn(1, Tokens, D);
        var weights = new LayerWeights(layer);
        (literal, fused, causal) = (new(weights), new(weights), new(weights));
    }

    private void Train(Func<Tensor, Tensor> forward)
    {
        using var scope = NewDisposeScope();
        forward(x).backward([gradient]);
    }
}
