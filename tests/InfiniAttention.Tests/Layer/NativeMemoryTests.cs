using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>No call leaves native bytes behind that only a garbage collection frees: they would fragment the heap between a window's blocks.</summary>
public class NativeMemoryTests(ITestOutputHelper output)
{
    public static TheoryData<string> Calls =>
    [
        "forward linear", "forward delta", "forward rotary", "forward grouped", "forward a part of a segment", "ForwardFrom", "one token",
        "forward padded", "forward packed", "forward in bfloat16", "forward with norms", "forward with norms in bfloat16", "one token with norms",
        "forward with two segments in view", "forward packed with two segments in view", "one token with two segments in view",
        "forward with query and key norms", "forward with query and key norms in bfloat16", "one token with query and key norms",
    ];

    [Theory]
    [MemberData(nameof(Calls))]
    public void Without_gradients_a_call_leaves_nothing(string name)
    {
        if (!NativeHeap.IsGlibc)
        {
            return;
        }

        using var scope = NewDisposeScope();
        using var mode = no_grad();
        NativeHeap.LeavesNothing(output, name, Case(name));
    }

    /// <summary>
    /// With gradients a few places must split a tensor into a list (TorchSharp's unbind and split leave 32 bytes), because the
    /// gradient of a single slice is as large as the whole tensor: at most two lists per block and one per call. And a node of
    /// <see cref="HostFeatures"/> leaves what its delegates take, about 105 bytes, twice per block.
    /// </summary>
    [Theory]
    [InlineData("forward linear")]
    [InlineData("forward delta")]
    [InlineData("forward grouped")]
    [InlineData("forward with norms")]
    public void With_gradients_a_call_leaves_what_three_lists_and_two_nodes_leave(string name)
    {
        if (!NativeHeap.IsGlibc)
        {
            return;
        }

        using var scope = NewDisposeScope();
        LayerCase one = new()
        {
            Segment = 8,
            Length = 40,
            Update = name == "forward delta" ? MemoryUpdate.Delta : MemoryUpdate.Linear,
            HeadsPerGroup = name == "forward grouped" ? 2 : 1,
            Norm = name == "forward with norms",
        };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        Action call = () =>
        {
            using var inner = NewDisposeScope();
            layer.forward(x).sum().backward();
        };
        double left = NativeHeap.LeftBy(call, times: 50); // few, because a collection in between spoils a measurement
        output.WriteLine($"{name} and backward: {left:f1} bytes a call");
        Assert.InRange(left, -32, (3 * 32) + (2 * 112) + NativeHeap.Nothing);
    }

    [Fact]
    public void The_measure_sees_what_TorchSharp_leaves_behind()
    {
        if (!NativeHeap.IsGlibc)
        {
            return;
        }

        using var scope = NewDisposeScope();
        Tensor a = ones(2), b = ones(2);
        double left = NativeHeap.LeftBy(() => (a + b).Dispose());
        output.WriteLine($"a + b leaves {left:f1} bytes");
        Assert.InRange(left, 24, 96); // 48 and malloc's overhead; a collection in between frees some
    }

    private static Action Case(string name)
    {
        var one = new LayerCase { Segment = 8, Length = 40, HeadsPerGroup = 1 };
        one = name switch
        {
            "forward delta" => one with { Update = MemoryUpdate.Delta },
            "forward rotary" => one with { Rotary = RotaryPairing.Interleaved },
            "forward grouped" => one with { HeadsPerGroup = 2 },
            "forward a part of a segment" => one with { Length = 5 },
            "forward padded" => one with { Padding = true },
            "forward packed" => one with { WriteWeights = true },
            _ => one,
        };
        one = one with
        {
            Norm = name.Contains("with norms", StringComparison.Ordinal),
            OwnMemoryProjections = name.Contains("with norms", StringComparison.Ordinal),
            HeadNorm = name.Contains("query and key norms", StringComparison.Ordinal),
            LocalSegments = name.Contains("two segments", StringComparison.Ordinal) ? 2 : 1,
            Documents = name.Contains("packed", StringComparison.Ordinal),
        };
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input().detach();
        TokenInfo? info = one.Info();
        if (name.Contains("bfloat16", StringComparison.Ordinal))
        {
            layer.to(ScalarType.BFloat16);
            x = x.to(ScalarType.BFloat16);
        }

        Tensor token = x.narrow(1, 0, 1);
        MemoryState state = layer.ForwardFrom(null, x).State;
        return name switch
        {
            "ForwardFrom" => () =>
            {
                (Tensor y, MemoryState after) = layer.ForwardFrom(state, x);
                y.Dispose();
                after.Dispose();
            }
            ,
            _ when name.StartsWith("one token", StringComparison.Ordinal) => () =>
            {
                (Tensor y, MemoryState after) = layer.ForwardFrom(state, token);
                y.Dispose();
                state.Dispose();
                state = after;
            }
            ,
            _ => () => layer.forward(x, info).Dispose(),
        };
    }
}
