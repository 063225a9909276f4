using TorchSharp;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The result does not depend on how a stream is cut: the main property of the streamer.</summary>
public class SegmentStreamerCutTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-9;

    [Fact]
    public void Outputs_and_saved_state_do_not_depend_on_how_a_stream_is_cut() =>
        Property.Holds(output, StreamCase.Any, 200, 40, (one, difference) =>
        {
            using var mode = no_grad();
            LayerStack model = one.Model();
            Tensor x = one.Layer.Input().detach();
            TokenInfo? info = one.Layer.Info();

            var whole = new SegmentStreamer(model);
            Tensor expected = whole.Forward(x, info);

            // Windows of any size, and Forward, Stream and Prefill in turn.
            var cut = new SegmentStreamer(model) { WindowTokens = 1 + (one.Layer.Seed % (2 * one.Layer.Segment)) };
            foreach (var (start, length) in one.Pieces())
            {
                Tensor piece = x.narrow(1, start, length);
                TokenInfo? told = info.Part(start, length);
                int way = (one.Layer.Seed + start) % 3;
                if (way == 2)
                {
                    long[] last = [.. LastReal(told?.KeyPaddingMask, x.size(0), length).Select(token => start + token)];
                    difference.Add(cat([.. last.Select((token, row) => expected.narrow(0, row, 1).narrow(1, token, 1))], 0), cut.Prefill(piece, told), Tolerance, "last output");
                }
                else
                {
                    difference.Add(expected.narrow(1, start, length), way == 0 ? cut.Forward(piece, told) : cat([.. cut.Stream(piece, told)], 1), Tolerance, "output");
                }
            }

            SafeTensors.Of(cut).CompareTo(SafeTensors.Of(whole), Tolerance, difference);
            Assert.Equal(one.Layer.Length, cut.Position);
        });

    [Fact]
    public void A_stream_in_pieces_equals_one_call_of_the_model() =>
        Property.Holds(output, StreamCase.Any, 40, 41, (one, difference) =>
        {
            using var mode = no_grad();
            LayerStack model = one.Model();
            Tensor x = one.Layer.Input().detach();
            using var streamer = new SegmentStreamer(model);
            var pieces = one.Pieces().Select(p => streamer.Forward(x.narrow(1, p.Start, p.Length)));
            difference.Add(model.call(x), cat([.. pieces], 1), Tolerance, "output");
        });

    [Fact]
    public void Gradients_run_through_the_state_whatever_the_cut() =>
        Property.Holds(output, StreamCase.Any, 60, 42, (one, difference) =>
        {
            (Tensor expected, Dictionary<string, Tensor> gradients) = WithGradients(one with { Cuts = [] });
            (Tensor actual, Dictionary<string, Tensor> cutGradients) = WithGradients(one);
            difference.Add(expected, actual, Tolerance, "output");
            foreach ((string name, Tensor gradient) in gradients)
            {
                difference.Add(gradient, cutGradients[name], Tolerance, $"gradient of {name}");
            }
        });

    [Fact]
    public void A_switch_between_calls_with_and_without_gradients_changes_no_output() =>
        Property.Holds(output, StreamCase.Any, 60, 43, (one, difference) =>
        {
            LayerStack model = one.Model();
            Tensor x = one.Layer.Input().detach();
            TokenInfo? info = one.Layer.Info();
            using var whole = new SegmentStreamer(model);
            Tensor expected = whole.Forward(x, info);

            using var mixed = new SegmentStreamer(model);
            var outputs = new List<Tensor>();
            foreach ((int start, int length) in one.Pieces())
            {
                using var mode = set_grad_enabled(outputs.Count % 2 == 0);
                outputs.Add(mixed.Forward(x.narrow(1, start, length), info.Part(start, length)));
            }

            difference.Add(expected, cat(outputs, 1), Tolerance, "output");
        });

    [Fact]
    public void In_every_type_the_cut_changes_only_rounding()
    {
        foreach (ScalarType type in FloatTypes.All)
        {
            foreach (MemoryUpdate update in Enum.GetValues<MemoryUpdate>())
            {
                using var scope = NewDisposeScope();
                using var mode = no_grad();
                var one = new LayerCase { Length = 30, HeadsPerGroup = 2, Update = update, Rotary = RotaryPairing.Halves };
                var model = new LayerStack(one, 2);
                model.to(type);
                Tensor x = one.Input().to_type(type);
                using SegmentStreamer whole = new(model), cut = new(model);
                Tensor tokens = cat([.. Enumerable.Range(0, 30).Select(t => cut.Forward(x.narrow(1, t, 1)))], 1);
                Assert.Equal(type, tokens.dtype);
                Difference.Close(whole.Forward(x), tokens, 8 * FloatTypes.Precision(type), $"{type}, {update}");
            }
        }
    }

    /// <summary>The index of each row's last token that is not padding; of the last token if all are padding.</summary>
    private static long[] LastReal(Tensor? padding, long rows, long length) => [.. Enumerable.Range(0, (int)rows).Select(row =>
        padding is null ? length - 1 : Enumerable.Range(0, (int)length).Where(t => !padding[row, t].item<bool>()).Select(t => (long)t).DefaultIfEmpty(length - 1).Last())];

    private static (Tensor Output, Dictionary<string, Tensor> Gradients) WithGradients(StreamCase one)
    {
        LayerStack model = one.Model();
        Tensor x = one.Layer.Input();
        TokenInfo? info = one.Layer.Info();
        using var streamer = new SegmentStreamer(model);
        Tensor[] pieces = [.. one.Pieces().Select(p => streamer.Forward(x.narrow(1, p.Start, p.Length), info.Part(p.Start, p.Length)))];
        Tensor y = cat(pieces, 1);
        LayerRun.Probe(one.Layer.Seed, y).backward();
        var gradients = model.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad ?? zeros_like(p.parameter));
        gradients["input"] = x.grad!;
        return (y, gradients);
    }
}
