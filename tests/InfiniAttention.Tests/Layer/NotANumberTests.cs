using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>
/// A token that is not finite spoils the outputs that read it, but no earlier segment and nothing after the memory is reset. (Earlier tokens of its
/// segment and call may be spoilt too: libtorch's fused attention multiplies masked values by 0.)
/// </summary>
public class NotANumberTests(ITestOutputHelper output)
{
    private const int Segment = 4;

    public static TheoryData<MemoryUpdate, ScalarType, double> Cases
    {
        get
        {
            var cases = new TheoryData<MemoryUpdate, ScalarType, double>();
            foreach (MemoryUpdate update in Enum.GetValues<MemoryUpdate>())
            {
                foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.Float64, ScalarType.BFloat16 })
                {
                    cases.Add(update, type, double.NaN);
                    cases.Add(update, type, double.PositiveInfinity);
                }
            }

            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_row_that_was_reset_is_finite_and_equals_a_new_row(MemoryUpdate update, ScalarType type, double spoilt)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Layer(update, type);
        foreach (int tokens in new[] { 2, Segment, Segment + 2, 3 * Segment })
        {
            Tensor x = Input(type, tokens), clean = Input(type, 40, seed: 2);
            x[0, 1] = spoilt;
            MemoryState reset = layer.ForwardFrom(null, x).State.ResetRows(tensor(new[] { true, false }));
            Tensor all = layer.ForwardFrom(reset, clean).Output;
            Assert.True(all.isfinite().all().item<bool>(), $"after {tokens} tokens: {all.isfinite().logical_not().sum().item<long>()} outputs are not finite");
            if (tokens % Segment == 0)
            {
                Difference.Close(layer.forward(clean)[0], all[0], type == ScalarType.BFloat16 ? 0.02 : 1e-5, $"after {tokens} tokens");
            }

            double[] steps = Steps(layer, reset, clean[0..2, 0..12]);
            Assert.All(steps, value => Assert.True(double.IsFinite(value)));
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void However_a_stream_is_cut_outputs_after_a_value_that_is_not_finite_are_not_finite(MemoryUpdate update, ScalarType type, double spoilt)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Layer(update, type);
        Tensor x = Input(type, 24);
        x[0, 5] = spoilt;
        bool[] whole = Finite(layer.forward(x));
        foreach (int piece in new[] { 1, 2, 3, 8 })
        {
            MemoryState? state = null;
            var pieces = new List<Tensor>();
            for (int start = 0; start < 24; start += piece)
            {
                (Tensor y, state) = layer.ForwardFrom(state, x.narrow(1, start, Math.Min(piece, 24 - start)));
                pieces.Add(y);
            }

            bool[] cut = Finite(cat(pieces, 1));
            Assert.Equal(Unaffected(whole), Unaffected(cut));
        }

        output.WriteLine($"row 0: {string.Concat(whole.Take(24).Select(isFinite => isFinite ? '.' : 'x'))}");
        Assert.All(whole[..Segment], Assert.True);
        Assert.All(whole[5..24], Assert.False);
        Assert.All(whole[24..], Assert.True);

        // Leaves out the token before the spoilt one in its segment.
        static bool[] Unaffected(bool[] finite) => [.. finite[..Segment], .. finite[5..]];
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_document_start_ends_the_effect_of_a_value_that_is_not_finite(MemoryUpdate update, ScalarType type, double spoilt)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Layer(update, type);
        foreach (int start in new[] { 6, 8, 9, 17 })
        {
            Tensor x = Input(type, 24), starts = zeros(2, 24, @bool);
            x[0, 5] = spoilt;
            starts[0, start] = true;
            bool[] finite = Finite(layer.forward(x, new TokenInfo { DocumentStarts = starts }));
            Assert.Equal(Enumerable.Range(0, 24).Select(t => t < 5 || t >= start), finite[..24]);
            Assert.All(finite[24..], Assert.True);
        }
    }

    /// <summary>The tokens behind a document start do not see the memory before it, so that their gradients must not depend on it either.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void A_document_start_keeps_gradients_clear_of_a_memory_that_is_not_finite(MemoryUpdate update, ScalarType type, double spoilt)
    {
        using var scope = NewDisposeScope();
        foreach ((bool norm, int localSegments) in new[] { (false, 1), (true, 1), (false, 2) })
        {
            InfiniAttentionModule layer = Layer(update, type, norm, localSegments);
            Tensor finite = Input(type, 8), notFinite = finite.clone();
            notFinite[0, 5] = spoilt;
            foreach (int start in new[] { 0, 2, 4, 6 })
            {
                string what = $"norm {norm}, {localSegments} local segments, start {start}";
                Dictionary<string, Tensor> expected = Gradients(layer, finite, start), found = Gradients(layer, notFinite, start);

                // Tokens before the start have spoilt outputs, which o_proj's weight meets whatever their gradient, and the gate too if the local outputs are spoilt.
                string[] met = start == 0 ? [] : localSegments == 1 ? ["o_proj.weight"] : ["o_proj.weight", "gate"];
                foreach ((string name, Tensor gradient) in expected.Where(entry => !met.Contains(entry.Key)))
                {
                    Difference.Close(gradient, found[name], type == ScalarType.BFloat16 ? 0.02 : 1e-5, $"{what}: gradient of {name}");
                }

                Assert.True(expected["input"].count_nonzero().item<long>() > 0, what);
            }
        }

        // Of a loss over row 0 from the start of a document on, and all of row 1, after the given tokens.
        static Dictionary<string, Tensor> Gradients(InfiniAttentionModule layer, Tensor earlier, int start)
        {
            Tensor x = Input(layer.Gate.dtype, 11, seed: 2).requires_grad_(true), starts = zeros(2, 11, @bool);
            starts[0, start] = true;
            using MemoryState before = layer.ForwardFrom(null, earlier).State.Detach();
            before.Memory.requires_grad_(true);
            before.Normalizer.requires_grad_(true);
            layer.zero_grad(set_to_none: true);
            Tensor y = layer.ForwardFrom(before, x, new TokenInfo { DocumentStarts = starts }).Output;
            (y[0, start..].pow(2).sum() + y[1].pow(2).sum()).backward();
            var gradients = layer.named_parameters().ToDictionary(p => p.name, p => p.parameter.grad?.clone() ?? zeros_like(p.parameter));
            (gradients["input"], gradients["memory"], gradients["normalizer"]) = (x.grad!, before.Memory.grad!, before.Normalizer.grad!);
            return gradients;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Padding_and_tokens_of_weight_0_write_nothing(MemoryUpdate update, ScalarType type, double spoilt)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Layer(update, type);
        Tensor x = Input(type, 24), padding = zeros(2, 24, @bool), weights = ones(2, 24);
        x[0, 5] = spoilt;
        padding[0, 5] = true;
        weights[0, 5] = 0;
        Assert.All(Finite(layer.forward(x, new TokenInfo { KeyPaddingMask = padding })), Assert.True);

        // The token is still attended inside its segment.
        bool[] finite = Finite(layer.forward(x, new TokenInfo { WriteWeights = weights }));
        Assert.All(finite[..Segment], Assert.True);
        Assert.All(finite[5..(2 * Segment)], Assert.False);
        Assert.All(finite[(2 * Segment)..], Assert.True);
    }

    [Fact]
    public void Selected_rows_carry_nothing_of_the_others()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        InfiniAttentionModule layer = Layer(MemoryUpdate.Delta, ScalarType.Float32);
        Tensor x = Input(ScalarType.Float32, 10);
        x[0, 1] = double.NaN;
        MemoryState selected = layer.ForwardFrom(null, x).State.SelectRows(tensor(new long[] { 1, 1 }));
        Assert.All(Finite(layer.ForwardFrom(selected, Input(ScalarType.Float32, 24)).Output), Assert.True);
    }

    /// <summary>Whether the output of each token is finite, row by row.</summary>
    private static bool[] Finite(Tensor y) => y.isfinite().all(-1).flatten().data<bool>().ToArray();

    private static double[] Steps(InfiniAttentionModule layer, MemoryState state, Tensor x) =>
    [
        .. Enumerable.Range(0, (int)x.shape[1]).SelectMany(t =>
        {
            (Tensor y, state) = layer.ForwardFrom(state, x.narrow(1, t, 1));
            return Difference.Numbers(y);
        }),
    ];

    private static InfiniAttentionModule Layer(MemoryUpdate update, ScalarType type, bool norm = false, int localSegments = 1)
    {
        manual_seed(1);
        return new(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = Segment, Update = update, MemoryNorm = norm, LocalSegments = localSegments }, dtype: type);
    }

    private static Tensor Input(ScalarType type, int tokens, int seed = 1)
    {
        manual_seed(seed);
        return randn(2, tokens, 8).to(type);
    }
}
