using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>No call of a stream leaves native bytes behind that only a garbage collection frees. The windows are too short here to trigger the stream's own collections.</summary>
public class StreamNativeMemoryTests(ITestOutputHelper output)
{
    private static readonly LayerCase Case = new() { Segment = 8, Length = 40 };

    public static TheoryData<string> Calls =>
    [
        "Forward", "Forward of one token", "Forward in windows", "Forward of a part of a segment", "Stream", "Prefill", "Prefill in windows",
        "a call inside an activation", "Detach", "ResetRows", "To another type and back",
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
        NativeHeap.LeavesNothing(output, name, Call(name), times: 50);
    }

    private static Action Call(string name)
    {
        InfiniAttentionModule layer = Case.Layer();
        Tensor x = Case.Input().detach(), token = x.narrow(1, 0, 1), part = x.narrow(1, 0, 5), rows = tensor(new[] { true, false });
        var info = new TokenInfo { KeyPaddingMask = zeros(2, 40, dtype: ScalarType.Bool) };
        var streamer = new SegmentStreamer(layer) { WindowTokens = name.Contains("windows", StringComparison.Ordinal) || name == "Stream" ? 8 : 40 };
        streamer.Forward(x).Dispose();
        return name switch
        {
            "Forward of one token" => () => streamer.Forward(token).Dispose(),
            "Forward of a part of a segment" => () => streamer.Forward(part).Dispose(),
            "Stream" => () =>
            {
                foreach (Tensor window in streamer.Stream(x))
                {
                    window.Dispose();
                }
            }
            ,
            "Prefill" or "Prefill in windows" => () => streamer.Prefill(x, info).Dispose(),
            "a call inside an activation" => () =>
            {
                using var activation = streamer.Activate(info);
                layer.call(x).Dispose();
            }
            ,
            "Detach" => streamer.Detach,
            "ResetRows" => () => streamer.ResetRows(rows),
            "To another type and back" => () =>
            {
                streamer.To(ScalarType.BFloat16);
                streamer.To(ScalarType.Float64);
            }
            ,
            _ => () => streamer.Forward(x).Dispose(),
        };
    }
}
