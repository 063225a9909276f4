using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A model whose forward is not <c>Tensor -> Tensor</c>: it also takes a scale, and also returns the stream's position.</summary>
internal sealed class PairModel : nn.Module<Tensor, double, (Tensor Output, long Position)>
{
    private readonly nn.Module<Tensor, Tensor> inner;

    public PairModel(LayerCase one)
        : base(nameof(PairModel))
    {
        inner = nn.Sequential(("stack", new LayerStack(one, 2)), ("last", one.Layer()));
        RegisterComponents();
    }

    public override (Tensor Output, long Position) forward(Tensor x, double scale)
    {
        long position = SegmentStreamer.Current?.Position ?? 0;
        using var scope = NewDisposeScope();
        return (inner.call(x * scale).MoveToOuterDisposeScope(), position);
    }
}
