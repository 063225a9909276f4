using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Projections passed to the constructor, initial values, hooks.</summary>
public class ProjectionTests
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 4, NumKeyValueHeads = 2, SegmentLength = 4 };

    [Fact]
    public void Projections_passed_to_the_constructor_are_registered_and_used()
    {
        using var scope = NewDisposeScope();
        var plain = new InfiniAttentionModule(Options);
        var adapted = new InfiniAttentionModule(Options, new Adapted(8, 8), nn.Linear(8, 4, false), nn.Linear(8, 4, false), nn.Linear(8, 8, false));
        Assert.Equal(
            ["gate", "k_proj.weight", "o_proj.weight", "q_proj.down.weight", "q_proj.main.weight", "q_proj.up.weight", "v_proj.weight"],
            adapted.state_dict().Keys.Order(StringComparer.Ordinal));
        using (no_grad())
        {
            foreach (var name in new[] { "k_proj.weight", "v_proj.weight", "o_proj.weight" })
            {
                adapted.state_dict()[name].copy_(plain.state_dict()[name]);
            }

            adapted.state_dict()["q_proj.main.weight"].copy_(plain.state_dict()["q_proj.weight"]);
        }

        Tensor x = randn(2, 11, 8);
        Difference.Close(plain.call(x), adapted.call(x), 1e-6, "an adapter that adds nothing");
        adapted.call(x).sum().backward();
        Assert.NotNull(adapted.get_parameter("q_proj.up.weight")!.grad);
        var weights = adapted.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().clone());
        adapted.reset_parameters();
        Assert.All(weights, entry => Difference.Close(entry.Value, adapted.state_dict()[entry.Key], 0, entry.Key));
        Assert.Throws<ArgumentNullException>(() => new InfiniAttentionModule(Options, null!, nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 8)));
    }

    [Theory]
    [InlineData(MemoryUpdate.Linear, 1, 4)]
    [InlineData(MemoryUpdate.Linear, 1, 2)]
    [InlineData(MemoryUpdate.Delta, 1, 4)]
    [InlineData(MemoryUpdate.Delta, 2, 2)]
    public void Outputs_of_given_projections_need_not_be_contiguous(MemoryUpdate update, int localSegments, int keyHeads)
    {
        using var scope = NewDisposeScope();
        manual_seed(60);
        InfiniAttentionOptions options = Options with { NumKeyValueHeads = keyHeads, Update = update, LocalSegments = localSegments };
        var (q, k, v, o) = (nn.Linear(8, 8), nn.Linear(8, 2 * keyHeads), nn.Linear(8, 2 * keyHeads), nn.Linear(8, 8));
        var plain = new InfiniAttentionModule(options, q, k, v, o);
        var given = new InfiniAttentionModule(options, new TokensFirst(q), new TokensFirst(k), new TokensFirst(v), new TokensFirst(o));
        Tensor x = randn(3, 14, 8), starts = zeros(3, 14, @bool);
        starts[1, 6] = true;
        foreach (bool gradients in new[] { false, true })
        {
            using var mode = set_grad_enabled(gradients);
            foreach (TokenInfo? info in new[] { null, new TokenInfo { DocumentStarts = starts } })
            {
                Difference.Close(plain.call(x, info), given.call(x, info), 1e-5, $"at once, gradients {gradients}");
                (Tensor first, MemoryState state) = given.ForwardFrom(null, x.narrow(1, 0, 3), info.Part(0, 3));
                Difference.Close(plain.call(x, info), cat([first, given.ForwardFrom(state, x.narrow(1, 3, 11), info.Part(3, 11)).Output], 1), 1e-5, $"cut, gradients {gradients}");
            }
        }
    }

    [Fact]
    public void Each_gate_starts_at_the_value_in_the_options()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options with { GateInitPerHead = [-2, 2, 0, 0.5] });
        Assert.Equal([-2, 2, 0, 0.5], Difference.Numbers(layer.Gate));
        Assert.Equal([3, 3, 3, 3], Difference.Numbers(new InfiniAttentionModule(Options with { GateInit = 3 }).Gate));
        foreach (double[] wrong in new[] { [1, 2, 3], [1, 2, 3, double.NaN], Array.Empty<double>() })
        {
            Assert.Contains("4 heads", Assert.Throws<ArgumentException>(() => new InfiniAttentionModule(Options with { GateInitPerHead = wrong })).Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Reset_parameters_draws_from_the_same_range_as_a_new_layer()
    {
        using var scope = NewDisposeScope();
        manual_seed(6);
        var layer = new InfiniAttentionModule(Options with { Bias = true, GateInitPerHead = [-2, 2, 0, 0.5] });
        var before = layer.state_dict().ToDictionary(entry => entry.Key, entry => Difference.Numbers(entry.Value));
        using (no_grad())
        {
            layer.Gate.zero_();
        }

        layer.reset_parameters();
        var bound = 1 / Math.Sqrt(8);
        foreach (var (name, tensor) in layer.state_dict())
        {
            double[] numbers = Difference.Numbers(tensor);
            if (name == "gate")
            {
                Assert.Equal(before[name], numbers);
                continue;
            }

            Assert.NotEqual(before[name], numbers);
            Assert.All(numbers, number => Assert.InRange(number, -bound, bound));
        }
    }

    [Fact]
    public void Hooks_run_for_both_calls()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(1, 6, 8);
        var calls = new List<string>();
        layer.register_forward_pre_hook((_, input) =>
        {
            calls.Add("before");
            return input * 2;
        });
        layer.register_forward_hook((_, _, output) =>
        {
            calls.Add("after");
            return output + 1;
        });
        var info = new TokenInfo { KeyPaddingMask = zeros(1, 6, @bool) };
        Difference.Close(layer.forward(x * 2, info) + 1, layer.call(x, info), 1e-6, "with info");
        Difference.Close(layer.forward(x * 2) + 1, layer.call(x), 1e-6, "without");
        Assert.Equal(["before", "after", "before", "after"], calls);
        Difference.Close(layer.call(x, info), ByInterface(layer, x, info), 0, "by the interface");

        static Tensor ByInterface(nn.IModule<Tensor, TokenInfo?, Tensor> module, Tensor x, TokenInfo info) => module.call(x, info);
    }
}
