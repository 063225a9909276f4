using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Gradients of gradients, as used by a gradient penalty.</summary>
public class SecondDerivativeTests
{
    [Theory]
    [InlineData(MemoryUpdate.Linear, false, 8)]
    [InlineData(MemoryUpdate.Delta, false, 8)]
    [InlineData(MemoryUpdate.Linear, true, 8)]
    [InlineData(MemoryUpdate.Linear, true, 32)] // wide enough for the passes over vectors
    public void Second_derivatives_equal_finite_differences_of_gradients(MemoryUpdate update, bool everything, long width)
    {
        using var scope = NewDisposeScope();
        manual_seed(3);
        var layer = new InfiniAttentionModule(
            new() { EmbedDim = width, NumHeads = 4, NumKeyValueHeads = 2, SegmentLength = 4, Update = update, SecondDerivatives = true, MemoryNorm = everything, Rotary = everything ? new() : null },
            dtype: ScalarType.Float64);
        Tensor x = randn([2, 11, width], ScalarType.Float64), direction = randn([2, 11, width], ScalarType.Float64);
        TokenInfo? info = everything ? new() { KeyPaddingMask = rand(2, 11) < 0.2, DocumentStarts = rand(2, 11) < 0.1 } : null;

        // The derivative, along a direction, of <g, direction>, where g is the gradient of sum(y^2).
        Tensor leaf = x.clone().requires_grad_(true);
        Tensor product = (Gradient(leaf, create: true) * direction).sum();
        Tensor second = autograd.grad([product], [leaf])[0];

        const double Step = 1e-5;
        Tensor difference = (Gradient((x + (Step * direction)).requires_grad_(true)) - Gradient((x - (Step * direction)).requires_grad_(true))) / (2 * Step);
        Difference.Close(difference, second, 1e-5, $"{update}");
        Assert.True(second.abs().max().item<double>() > 0.01);

        Tensor Gradient(Tensor input, bool create = false) => autograd.grad([layer.call(input, info).square().sum()], [input], retain_graph: create, create_graph: create)[0];
    }

    [Fact]
    public void With_and_without_the_option_the_layer_is_the_same_function()
    {
        using var scope = NewDisposeScope();
        foreach (LayerCase one in new[] { new LayerCase { Length = 22 }, new LayerCase { Length = 22, HeadsPerGroup = 2, Padding = true, Documents = true } })
        {
            InfiniAttentionModule fused = one.Layer();
            var composed = new InfiniAttentionModule(fused.Options with { SecondDerivatives = true }, dtype: ScalarType.Float64);
            composed.load_state_dict(fused.state_dict());
            Tensor x = one.Input();
            Difference.Close(fused.call(x, one.Info()), composed.call(x, one.Info()), 1e-12, $"{one}");
        }
    }
}
