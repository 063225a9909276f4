using TorchSharp;
using TorchSharp.Modules;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>In half precision the gradients of a call's blocks and windows are summed in float32 and rounded once.</summary>
public class HalfPrecisionGradientTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(ScalarType.BFloat16)]
    [InlineData(ScalarType.Float16)]
    public void The_gradient_of_a_bias_over_a_thousand_blocks_is_exact(ScalarType type)
    {
        const int Tokens = 2048; // float16 counts to 2048, bfloat16 to 256
        using var scope = NewDisposeScope();
        LayerCase one = new() { Batch = 1, Length = Tokens, Bias = true, BlockSegments = 1, Norm = true };
        InfiniAttentionModule layer = one.Layer();
        layer.to(type);
        layer.forward(one.Input().detach().to(type)).sum().backward();
        Tensor gradient = layer.named_parameters().Single(p => p.name == "o_proj.bias").parameter.grad!;
        Difference.Close(full(gradient.shape, (double)Tokens), gradient.to(ScalarType.Float64), 0, "gradient of o_proj.bias");
    }

    [Theory]
    [InlineData(ScalarType.BFloat16, false)]
    [InlineData(ScalarType.Float16, false)]
    [InlineData(ScalarType.BFloat16, true)]
    public void A_streamed_call_of_many_windows_gives_the_gradients_of_one(ScalarType type, bool isFrozenBefore)
    {
        const int Tokens = 2048;
        using var scope = NewDisposeScope();
        LayerCase one = new() { Batch = 1, Length = Tokens, Bias = true, Rotary = RotaryPairing.Halves };
        InfiniAttentionModule layer = one.Layer();
        layer.to(type);
        long width = layer.Options.EmbedDim;
        using Linear first = nn.Linear(width, width, dtype: type);
        foreach (Parameter weight in first.parameters())
        {
            weight.requires_grad = !isFrozenBefore;
        }

        using Sequential model = nn.Sequential(first, layer);
        using SegmentStreamer streamer = new(model) { WindowTokens = 4 };
        streamer.Forward(one.Input().detach().to(type)).sum().backward();
        Tensor gradient = layer.named_parameters().Single(p => p.name == "o_proj.bias").parameter.grad!;
        Difference.Close(full(gradient.shape, (double)Tokens), gradient.to(ScalarType.Float64), 0, "gradient of o_proj.bias");
    }

    [Fact]
    public void A_streamed_call_without_gradients_or_in_single_precision_keeps_its_windows()
    {
        foreach ((ScalarType type, bool gradients, int calls) in new[] { (ScalarType.BFloat16, false, 8), (ScalarType.Float32, true, 8), (ScalarType.BFloat16, true, 1) })
        {
            using var scope = NewDisposeScope();
            using var mode = set_grad_enabled(gradients);
            LayerCase one = new() { Batch = 1, Length = 32 };
            InfiniAttentionModule layer = one.Layer();
            layer.to(type);
            var seen = 0;
            layer.register_forward_pre_hook((_, x) =>
            {
                seen++;
                return x;
            });
            using SegmentStreamer streamer = new(layer) { WindowTokens = 4 };
            streamer.Forward(one.Input().detach().to(type));
            Assert.True(calls == seen, $"{type}, gradients {gradients}: {seen} calls of the model, not {calls}");
            streamer.Reset();
            seen = 0;
            streamer.Prefill(one.Input().detach().to(type));
            Assert.True(calls == seen, $"{type}, gradients {gradients}: {seen} calls of the model by Prefill, not {calls}");
        }
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(2, true)]
    public void Small_blocks_give_the_gradients_of_one_block(int batch, bool isRotary)
    {
        foreach (MemoryUpdate update in Enum.GetValues<MemoryUpdate>())
        {
            using var scope = NewDisposeScope();
            LayerCase one = new()
            {
                Batch = batch,
                Length = 4096 / batch,
                Bias = true,
                HeadsPerGroup = 2,
                Norm = true,
                OwnMemoryProjections = true,
                Update = update,
                Padding = true,
                BlockSegments = 1,
                Rotary = isRotary ? RotaryPairing.Halves : null,
            };
            Dictionary<string, double> apart = Errors(one, update), together = Errors(one with { BlockSegments = 4096 }, update);
            foreach ((string name, double error) in together.Where(entry => entry.Value < 1)) // k_proj.bias has an exact gradient of 0 if only the softmax uses it
            {
                output.WriteLine($"{update}, {name}: {apart[name]:0.0E+0} in blocks of a segment, {error:0.0E+0} in one");
                Assert.InRange(apart[name], 0, Math.Max(3 * error, 0.02));
            }
        }
    }

    /// <summary>The errors of bfloat16 gradients against float64 with the same weights, relative to the gradients' norms.</summary>
    private static Dictionary<string, double> Errors(LayerCase one, MemoryUpdate update)
    {
        InfiniAttentionModule half = one.Layer(), exact = one.Layer();
        half.to(ScalarType.BFloat16);
        exact.to(ScalarType.BFloat16);
        exact.to(ScalarType.Float64);
        Tensor x = one.Input().detach().to(ScalarType.BFloat16), probe = new Draw(3).Normal(1, x.shape).to(ScalarType.BFloat16) + 1;
        (half.forward(x, one.Info()) * probe).sum().backward();
        (exact.forward(x.to(ScalarType.Float64), one.Info()) * probe.to(ScalarType.Float64)).sum().backward();
        return half.named_parameters().Zip(exact.named_parameters()).ToDictionary(
            pair => pair.First.name,
            pair => ((pair.First.parameter.grad!.to(ScalarType.Float64) - pair.Second.parameter.grad!).norm() / pair.Second.parameter.grad!.norm()).item<double>());
    }
}
