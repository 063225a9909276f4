using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Several layers with residual connections: the smallest model with more than one state.</summary>
internal sealed class LayerStack : nn.Module<Tensor, Tensor>
{
    private readonly ModuleList<InfiniAttentionModule> layers = [];

    /// <summary>The layers of a case with different weights, in float64.</summary>
    public LayerStack(LayerCase one, int depth, double dropout = 0)
        : base(nameof(LayerStack))
    {
        for (int i = 0; i < depth; i++)
        {
            LayerCase layer = one with { Seed = one.Seed + 10 * i };
            layers.Add(Layers.With(layer.Options() with { Dropout = dropout }, layer.Weights()));
        }

        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        foreach (InfiniAttentionModule layer in layers)
        {
            x = x + layer.call(x).tanh();
        }

        return x.MoveToOuterDisposeScope();
    }
}
