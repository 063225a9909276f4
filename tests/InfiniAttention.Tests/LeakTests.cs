using InfiniAttention.Tests.Groups;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>No call leaves a tensor alive beyond what it returns.</summary>
public class LeakTests
{
    public static TheoryData<string, bool> Cases
    {
        get
        {
            var cases = new TheoryData<string, bool>();
            foreach (string name in Named.Keys)
            {
                cases.Add(name, false);
                cases.Add(name, true);
            }

            return cases;
        }
    }

    private static Dictionary<string, LayerCase> Named { get; } = new()
    {
        ["linear"] = new LayerCase { Length = 22 },
        ["delta"] = new LayerCase { Length = 22, Update = MemoryUpdate.Delta },
        ["shorter than a segment"] = new LayerCase { Length = 3 },
        ["whole segments"] = new LayerCase { Length = 12 },
        ["everything"] = new LayerCase
        {
            Length = 22,
            HeadsPerGroup = 2,
            Update = MemoryUpdate.Delta,
            EmptyMemory = EmptyMemory.Gated,
            Rotary = RotaryPairing.Halves,
            Bias = true,
            Padding = true,
            Documents = true,
            WriteWeights = true,
        },
        ["several blocks"] = new LayerCase { Length = 22, BlockSegments = 1, Rotary = RotaryPairing.Halves },
        ["options beyond the paper"] = new LayerCase { Length = 22, Rotary = RotaryPairing.Halves, Norm = true, OwnMemoryProjections = true, LocalSegments = 2 },
        ["options beyond the paper, packed"] = new LayerCase { Length = 22, Norm = true, LocalSegments = 2, Padding = true, Documents = true },
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void Forward_leaves_only_its_output(string name, bool gradients)
    {
        using var scope = NewDisposeScope();
        (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = Warm(Named[name]);
        using var mode = set_grad_enabled(gradients);
        Tensor? y = null;
        Assert.Equal(1, LiveTensors.LeftBy(() => y = layer.forward(x, info)));
        Assert.Equal(0, LiveTensors.LeftBy(() => layer.forward(x, info).Dispose()));
        Assert.Equal(gradients, y!.requires_grad);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_stretch_of_a_group_leaves_only_its_output_and_its_state(string name, bool gradients)
    {
        using var scope = NewDisposeScope();
        (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = Warm(Named[name]);
        using var mode = set_grad_enabled(gradients);
        var group = new LoneGroup();
        Tensor? y = null;
        Assert.Equal(1, LiveTensors.LeftBy(() =>
        {
            (y, MemoryState state) = layer.ForwardFrom(null, x, group, info);
            state.Dispose();
        }));
        Assert.Equal(gradients, y!.requires_grad);

        // The last exchange of a call has an output that nothing uses. TorchSharp makes an object without a tensor for its gradient, and never counts it as disposed of.
        Assert.Equal(gradients ? 1 : 0, LiveTensors.LeftBy(() =>
        {
            using var step = NewDisposeScope(); // TorchSharp leaves what a function of the graph returns from backward to the caller's scope
            (Tensor again, MemoryState state) = layer.ForwardFrom(null, x, group, info);
            if (gradients)
            {
                again.sum().backward();
            }

            state.Dispose();
            again.Dispose();
        }));
    }

    [Fact]
    public void Training_on_stretches_of_a_group_keeps_no_native_memory_that_a_collection_does_not_free()
    {
        if (!NativeHeap.IsGlibc)
        {
            return;
        }

        const int Steps = 200, Measurements = 9;
        using var scope = NewDisposeScope();
        (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = Warm(Named["delta"]);
        var group = new LoneGroup();
        Train();
        var kept = new List<double>();
        while (kept.Count < Measurements)
        {
            long before = NativeHeap.InUseAfterCollection;
            Train();
            kept.Add((NativeHeap.InUseAfterCollection - before) / (double)Steps);
        }

        // The median: the compiler and the test runner allocate now and then on threads of their own.
        double bytes = kept.Order().ElementAt(Measurements / 2);
        Assert.True(bytes < NativeHeap.Nothing, $"a step keeps {bytes:f1} bytes; measured: {string.Join(", ", kept.Select(measured => $"{measured:f1}"))}");

        void Train()
        {
            for (int step = 0; step < Steps; step++)
            {
                using var inner = NewDisposeScope();
                (Tensor y, MemoryState state) = layer.ForwardFrom(null, x, group, info);
                y.sum().backward();
                state.Dispose();
            }
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Disposing_of_a_state_disposes_of_all_its_tensors(string name, bool gradients)
    {
        using var scope = NewDisposeScope();
        (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = Warm(Named[name]);
        using var mode = set_grad_enabled(gradients);
        Tensor twice = tensor(new long[] { 0, 0, 1 }), second = tensor(new[] { false, true });
        Assert.Equal(0, LiveTensors.LeftBy(() =>
        {
            (Tensor y, MemoryState state) = layer.ForwardFrom(null, x, info);
            (Tensor continued, MemoryState next) = layer.ForwardFrom(state, x, info);
            MemoryState[] derived = [next.Clone(), next.Detach(), next.SelectRows(twice), next.ResetRows(second), next.To(CPU)];
            foreach (IDisposable mine in new IDisposable[] { y, continued, state, next }.Concat(derived))
            {
                mine.Dispose();
            }
        }));
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Back_propagation_leaves_nothing_but_gradients(string name, bool scoped)
    {
        using var scope = NewDisposeScope();
        (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = Warm(Named[name]);
        void Step()
        {
            using var inner = scoped ? NewDisposeScope() : null;
            using Tensor y = layer.forward(x, info);
            using Tensor sum = y.sum();
            sum.backward();
        }

        Step();
        Assert.Equal(0, LiveTensors.LeftBy(Step));
    }

    [Theory]
    [InlineData("everything", false, ScalarType.Float64)]
    [InlineData("everything", true, ScalarType.Float64)]
    [InlineData("options beyond the paper", true, ScalarType.Float64)]
    [InlineData("several blocks", false, ScalarType.Float64)]
    [InlineData("several blocks", true, ScalarType.Float64)]
    [InlineData("several blocks", true, ScalarType.BFloat16)]
    public void An_exception_in_the_middle_leaves_nothing(string name, bool gradients, ScalarType type)
    {
        using var scope = NewDisposeScope();
        foreach (string projection in new[] { "v_proj.weight", "gate", "o_proj.weight" })
        {
            (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = Warm(Named[name]);
            layer.to(type);
            x = x.detach().to(type);
            layer.forward(x, info).Dispose(); // one rotary table per type
            (Tensor y, MemoryState state) = layer.ForwardFrom(null, x, info);
            using var mode = set_grad_enabled(gradients);
            layer.named_parameters().Single(p => p.name == projection).parameter.Dispose();

            Assert.Equal(0, LiveTensors.LeftBy(() => Assert.ThrowsAny<Exception>(() => layer.forward(x, info))));
            Assert.Equal(0, LiveTensors.LeftBy(() => Assert.ThrowsAny<Exception>(() => layer.ForwardFrom(state, x, info))));
        }
    }

    /// <summary>A layer that has run once: its first call creates the rotary table, which it keeps.</summary>
    private static (InfiniAttentionModule Layer, Tensor Input, TokenInfo? Info) Warm(LayerCase one)
    {
        (InfiniAttentionModule layer, Tensor x, TokenInfo? info) = (one.Layer(), one.Input(), one.Info());
        layer.forward(x, info).Dispose();
        return (layer, x, info);
    }
}
