using InfiniAttention.Tests.Oracle;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>
/// The paper's delta rule divides by the normaliser of the earlier segments. After a short first segment that normaliser is small
/// compared with a long segment's writes, and the subtraction overshoots. With <see cref="DeltaNormalizer.AfterSegment"/> it does not.
/// </summary>
public class DeltaStabilityTests(ITestOutputHelper output)
{
    private const int Segment = 64;

    /// <summary>
    /// The first segment has the value 1, the next 0. What a query reads should fall from 1 towards 0 and stay between,
    /// as it does under the linear rule.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public void After_a_short_first_segment_the_papers_rule_overshoots_and_the_remedy_does_not(int firstTokens)
    {
        using var scope = NewDisposeScope();
        double linear = Read(MemoryUpdate.Linear, DeltaNormalizer.BeforeSegment, firstTokens);
        double paper = Read(MemoryUpdate.Delta, DeltaNormalizer.BeforeSegment, firstTokens);
        double remedy = Read(MemoryUpdate.Delta, DeltaNormalizer.AfterSegment, firstTokens);
        output.WriteLine(
            $"a value of 1 read again after {firstTokens} token and then {Segment} of value 0: linear {linear:F3}, delta {paper:F3}, delta with the remedy {remedy:F3}");
        Assert.InRange(linear, 0, 1);
        Assert.InRange(paper, double.NegativeInfinity, -0.5);
        Assert.InRange(remedy, -0.1, linear + 1e-9);
    }

    [Fact]
    public void After_a_whole_first_segment_neither_overshoots()
    {
        using var scope = NewDisposeScope();
        double linear = Read(MemoryUpdate.Linear, DeltaNormalizer.BeforeSegment, Segment);
        double paper = Read(MemoryUpdate.Delta, DeltaNormalizer.BeforeSegment, Segment);
        double remedy = Read(MemoryUpdate.Delta, DeltaNormalizer.AfterSegment, Segment);
        output.WriteLine($"after a whole segment: linear {linear:F3}, delta {paper:F3}, delta with the remedy {remedy:F3}");
        Assert.InRange(paper, -0.1, linear);
        Assert.InRange(remedy, -0.1, linear);
    }

    [Fact]
    public void Once_the_memory_is_large_against_a_segment_the_remedy_changes_little()
    {
        using var scope = NewDisposeScope();
        double paper = Read(MemoryUpdate.Delta, DeltaNormalizer.BeforeSegment, Segment, firstWeight: 1000);
        double remedy = Read(MemoryUpdate.Delta, DeltaNormalizer.AfterSegment, Segment, firstWeight: 1000);
        Assert.InRange(remedy, paper - 0.01, paper + 0.01);
    }

    /// <summary>What the first token's key reads after a first segment of the given number of tokens and one whole segment.</summary>
    private static double Read(MemoryUpdate update, DeltaNormalizer normalizer, int firstTokens, double firstWeight = 1)
    {
        var one = new LayerCase
        {
            Batch = 1,
            Segment = Segment,
            Length = 2 * Segment,
            KeyValueHeads = 1,
            HeadDim = 8,
            ValueDim = 1,
            Update = update,
            DeltaNormalizer = normalizer,
        };
        Dictionary<string, Tensor> weights = one.Weights();
        foreach (string projection in new[] { "q_proj.weight", "k_proj.weight" })
        {
            weights[projection] = weights[projection].detach();
            weights[projection].select(1, 0).fill_(0);
        }

        weights["v_proj.weight"] = zeros(1, 8, dtype: ScalarType.Float64);
        weights["v_proj.weight"].select(1, 0).fill_(1); // the value is the first element of the input
        Tensor x = one.Input().detach();
        x.select(2, 0).fill_(0);
        x.select(2, 0).narrow(1, 0, Segment).fill_(1);
        Tensor padding = zeros(1, 2 * Segment, dtype: ScalarType.Bool);
        if (firstTokens < Segment)
        {
            padding.narrow(1, 0, Segment - firstTokens).fill_(true);
        }

        Tensor writes = ones(1, 2 * Segment, dtype: ScalarType.Float64);
        writes.narrow(1, 0, Segment).fill_(firstWeight);
        MemoryState state = Layers.With(one.Options(), weights).ForwardFrom(null, x, new TokenInfo { KeyPaddingMask = padding, WriteWeights = writes }).State;
        Tensor key = matmul(weights["k_proj.weight"], x.select(0, 0).select(0, Segment - 1));
        Tensor read = OracleAttention.Read(OracleAttention.Sigma(key), state.Memory.select(0, 0).select(0, 0), state.Normalizer.select(0, 0).select(0, 0));
        return Difference.Numbers(read)[0];
    }

    /// <summary>65,536 segments in float32, as many as a million tokens make with a segment length of 16.</summary>
    [Theory]
    [InlineData(MemoryUpdate.Linear)]
    [InlineData(MemoryUpdate.Delta)]
    public void The_error_of_float32_does_not_grow_with_the_number_of_segments(MemoryUpdate update)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(1);
        var options = new InfiniAttentionOptions { EmbedDim = 16, NumHeads = 2, SegmentLength = 4, Update = update };
        var narrow = new InfiniAttentionModule(options);
        var wide = new InfiniAttentionModule(options, dtype: ScalarType.Float64);
        wide.load_state_dict(narrow.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().to(ScalarType.Float64)));
        using SegmentStreamer of32 = new(narrow), of64 = new(wide);
        double error = 0;
        while (of32.Position < 4 * 65536)
        {
            using var window = NewDisposeScope();
            Tensor x = randn(1, 4096, 16), expected = of64.Prefill(x.to(ScalarType.Float64));
            error = ((of32.Prefill(x) - expected).abs().max() / expected.abs().max()).item<double>();
        }

        Assert.True(error < 2e-6, $"{update}: {error:e2} after 65,536 segments");
    }
}
