using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Reported gates, memories and bytes against their definitions.</summary>
public class StreamReportTests
{
    private static readonly InfiniAttentionOptions Options = new()
    {
        EmbedDim = 16,
        NumHeads = 4,
        NumKeyValueHeads = 2,
        ValueHeadDim = 6,
        SegmentLength = 8,
        BlockTokens = 32,
    };

    private static TorchSharp.Modules.Sequential Model(InfiniAttentionOptions options) =>
        nn.Sequential(("first", new InfiniAttentionModule(options)), ("second", new InfiniAttentionModule(options with { GateInit = -1.5 })));

    [Fact]
    public void Before_the_first_token_there_are_only_gates()
    {
        using var scope = NewDisposeScope();
        using var stream = new SegmentStreamer(Model(Options));
        var report = stream.Report();
        Assert.Equal(["first", "second"], report.Select(layer => layer.Layer));
        Assert.Equal([-1.5, -1.5, -1.5, -1.5], report[1].Gates);
        Assert.All(report[1].MemoryShares, share => Assert.Equal(0.18243, share, 5));
        Assert.All(report, layer => Assert.Equal((0, 0, 0), (layer.Position, layer.StateBytes, layer.FullCacheBytes)));
        Assert.All(report, layer => Assert.Equal([0, 0], layer.MemoryNorms));
    }

    [Fact]
    public void Tokens_that_are_not_written_do_not_spoil_the_retrieval_error()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(22);
        var layer = new InfiniAttentionModule(Options);
        Tensor x = randn(2, 8, 16), weights = ones(2, 8);
        weights[0, 3] = 0;
        double[] expected = Errors(x);
        x[0, 3] = double.NaN;
        Assert.Equal(expected, Errors(x));
        Assert.All(expected, error => Assert.True(double.IsFinite(error)));

        double[] Errors(Tensor input)
        {
            var reports = new List<SegmentReport>();
            using var stream = new SegmentStreamer(layer);
            stream.SegmentWritten += reports.Add;
            stream.Forward(input, new TokenInfo { WriteWeights = weights });
            return [.. Assert.Single(reports).RetrievalErrors];
        }
    }

    [Fact]
    public void A_report_describes_the_current_states()
    {
        using var scope = NewDisposeScope();
        manual_seed(21);
        var layer = new InfiniAttentionModule(Options);
        var x = randn(3, 21, 16);
        using var stream = new SegmentStreamer(layer);
        stream.Forward(x);

        var report = Assert.Single(stream.Report());

        var (_, state) = layer.ForwardFrom(null, x);
        for (var head = 0; head < 2; head++)
        {
            var norms = Enumerable.Range(0, 3).Select(row => Math.Sqrt(Numbers(state.Memory[row, head]).Sum(number => number * number)));
            Assert.Equal(norms.Average(), report.MemoryNorms[head], tolerance: 1e-5 * norms.Average());
            Assert.Equal(Enumerable.Range(0, 3).Min(row => Numbers(state.Normalizer[row, head]).Min()), report.SmallestNormalizers[head], tolerance: 1e-5);
        }

        Assert.Equal(("", 21), (report.Layer, report.Position));
        Assert.Equal(stream.StateBytes, report.StateBytes);
        Assert.Equal(3 * 21 * 2 * (4 + 6) * sizeof(float), report.FullCacheBytes);
        state.Dispose();
    }

    [Theory]
    [InlineData(MemoryUpdate.Linear)]
    [InlineData(MemoryUpdate.Delta)]
    public void Every_segment_is_reported_once_however_the_stream_is_cut(MemoryUpdate update)
    {
        using var scope = NewDisposeScope();
        var model = Model(Options with { Update = update }).to(ScalarType.Float64);
        var x = randn(2, 50, 16, ScalarType.Float64);
        var whole = Told(model, x, [50]);
        Assert.Equal(12, whole.Count);
        foreach (var layer in new[] { "first", "second" })
        {
            Assert.Equal([0, 1, 2, 3, 4, 5], whole.Where(segment => segment.Layer == layer).Select(segment => segment.Segment));
        }

        foreach (var cut in new long[][] { [3, 5, 8, 34], [.. Enumerable.Repeat(1L, 50)], [17, 33] })
        {
            var told = Told(model, x, cut);
            Assert.Equal(whole.Count, told.Count);
            foreach (var expected in whole)
            {
                var actual = told.Single(segment => (segment.Layer, segment.Segment) == (expected.Layer, expected.Segment));
                Assert.All(expected.MemoryNorms.Zip(actual.MemoryNorms), pair => Assert.Equal(pair.First, pair.Second, 9));
                Assert.All(expected.SmallestNormalizers.Zip(actual.SmallestNormalizers), pair => Assert.Equal(pair.First, pair.Second, 9));
                Assert.All(expected.RetrievalErrors.Zip(actual.RetrievalErrors), pair => Assert.Equal(pair.First, pair.Second, 9));
            }
        }
    }

    [Fact]
    public void Segments_outside_the_stream_are_not_reported()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        var told = new List<SegmentReport>();
        using var stream = new SegmentStreamer(layer);
        stream.SegmentWritten += told.Add;
        using (stream.Activate())
        {
            layer.ForwardFrom(null, randn(1, 8, 16)).State.Dispose();
            Assert.Empty(told);
            layer.call(randn(1, 8, 16));
        }

        Assert.Single(told);
    }

    [Fact]
    public void A_listener_may_not_change_the_stream_that_writes_the_segment()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options);
        using var stream = new SegmentStreamer(layer);
        var x = randn(1, 8, 16);
        foreach (var change in new[] { stream.Detach, stream.Reset, () => { layer.call(x); } })
        {
            Action<SegmentReport> listener = _ => change();
            stream.SegmentWritten += listener;
            using (stream.Activate())
            {
                Assert.Contains("in the middle of a call", Assert.Throws<InvalidOperationException>(() => layer.call(x)).Message);
            }

            Assert.Contains("in the middle of a call", Assert.Throws<InvalidOperationException>(() => stream.Forward(x)).Message);
            Assert.Equal(0, stream.Position);
            stream.SegmentWritten -= listener;
        }
    }

    [Fact]
    public void The_retrieval_error_is_that_of_the_segments_own_keys()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(Options, dtype: ScalarType.Float64);
        var x = randn(2, 16, 16, ScalarType.Float64);
        var padding = zeros(2, 16, @bool);
        padding[1, TensorIndex.Slice(12, 15)] = true;
        var told = Told(layer, x, [16], new TokenInfo { KeyPaddingMask = padding });

        var (_, state) = layer.ForwardFrom(null, x, new TokenInfo { KeyPaddingMask = padding });
        for (var head = 0; head < 2; head++)
        {
            var (missed, all) = (0.0, 0.0);
            for (var row = 0; row < 2; row++)
            {
                foreach (var t in Enumerable.Range(8, 8).Where(t => row == 0 || t is < 12 or >= 15))
                {
                    var k = Project("k_proj.weight", head, 4, x[row, t]);
                    var v = Project("v_proj.weight", head, 6, x[row, t]);
                    var sigma = k.clamp_min(0) + k.clamp_max(0).exp();
                    var retrieved = sigma.matmul(state.Memory[row, head]) / sigma.dot(state.Normalizer[row, head]);
                    missed += (retrieved - v).square().sum().item<double>();
                    all += v.square().sum().item<double>();
                }
            }

            Assert.Equal(Math.Sqrt(missed / all), told[1].RetrievalErrors[head], 9);
        }

        state.Dispose();

        Tensor Project(string name, long head, long width, Tensor token) => layer.get_parameter(name)!.narrow(0, head * width, width).matmul(token);
    }

    [Fact]
    public void A_memory_of_orthogonal_keys_recalls_exactly_and_one_of_padding_has_no_retrieval_error()
    {
        using var scope = NewDisposeScope();
        var layer = new InfiniAttentionModule(new() { EmbedDim = 2, NumHeads = 1, SegmentLength = 2 }, dtype: ScalarType.Float64);
        using (no_grad())
        {
            // Keys (0, -800) and (-800, 0): ELU + 1 maps them to the unit vectors, to rounding.
            layer.get_parameter("k_proj.weight")!.copy_(tensor(new[,] { { 0.0, -800 }, { -800, 0 } }));
        }

        var told = Told(layer, eye(2, dtype: ScalarType.Float64).unsqueeze(0), [2]);
        Assert.Equal(0, Assert.Single(told).RetrievalErrors[0], 12);

        var padded = Told(layer, eye(2, dtype: ScalarType.Float64).unsqueeze(0), [2], new TokenInfo { KeyPaddingMask = ones(1, 2, @bool) });
        Assert.True(double.IsNaN(Assert.Single(padded).RetrievalErrors[0]));
    }

    [Fact]
    public void Reports_leave_no_tensor_behind_and_back_propagation_reports_nothing()
    {
        using var scope = NewDisposeScope();
        var model = Model(Options);
        var (x, target) = (randn(2, 32, 16), randn(2, 32, 16));
        using var stream = new SegmentStreamer(model);
        var told = new List<SegmentReport>();
        stream.Forward(x).Dispose();
        var before = LiveTensors.Count;
        stream.SegmentWritten += told.Add;
        using (no_grad())
        {
            stream.Forward(x).Dispose();
        }

        stream.Report();
        Assert.Equal(8, told.Count);
        stream.Detach();
        Assert.True(LiveTensors.Count <= before);

        stream.Backpropagate(x, target, (y, t) => (y - t).square().sum(), LossReduction.Sum);
        Assert.Equal(8, told.Count);
    }

    [Fact]
    public void Listeners_can_be_added_and_removed_inside_an_activation()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var layer = new InfiniAttentionModule(Options);
        var told = new List<SegmentReport>();
        using var stream = new SegmentStreamer(layer);
        using var activation = stream.Activate();
        layer.call(randn(1, 8, 16));
        stream.SegmentWritten += told.Add;
        layer.call(randn(1, 8, 16));
        stream.SegmentWritten -= told.Add;
        layer.call(randn(1, 8, 16));
        Assert.Equal(1, Assert.Single(told).Segment);
    }

    [Fact]
    public void Back_propagation_reports_nothing_for_a_model_with_nested_activations()
    {
        using var scope = NewDisposeScope();
        var told = new List<SegmentReport>();
        using var stream = new SegmentStreamer(new Weighing());
        stream.SegmentWritten += told.Add;
        var x = randn(1, 16, 16);
        stream.Backpropagate(x, x, (y, target) => (y - target).square().sum(-1));
        Assert.Empty(told);
        stream.Forward(x);
        Assert.Equal(2, told.Count);
    }

    [Fact]
    public void A_full_cache_beyond_the_range_of_long_is_reported_as_the_largest_long()
    {
        using var scope = NewDisposeScope();
        using var stream = new SegmentStreamer(new InfiniAttentionModule(Options));
        stream.States.Set([new MemoryState(zeros(1, 2, 4, 6), zeros(1, 2, 4), 1L << 62)]);
        Assert.Equal(long.MaxValue, Assert.Single(stream.Report()).FullCacheBytes);
    }

    [Fact]
    public void Report_of_a_disposed_stream_is_refused()
    {
        using var scope = NewDisposeScope();
        var stream = new SegmentStreamer(Model(Options));
        stream.Dispose();
        Assert.Throws<ObjectDisposedException>(stream.Report);
    }

    private static List<SegmentReport> Told(nn.Module<Tensor, Tensor> model, Tensor x, long[] cut, TokenInfo? info = null)
    {
        using var noGrad = no_grad();
        using var stream = new SegmentStreamer(model);
        var told = new List<SegmentReport>();
        stream.SegmentWritten += told.Add;
        foreach (var length in cut)
        {
            stream.Forward(x.narrow(1, stream.Position, length), info);
        }

        return told;
    }

    private static double[] Numbers(Tensor x) => x.detach().to(ScalarType.Float64).contiguous().data<double>().ToArray();

    /// <summary>A model that activates its stream again around its layer.</summary>
    private sealed class Weighing : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule layer = new(Options);

        public Weighing()
            : base(nameof(Weighing)) => RegisterComponents();

        public override Tensor forward(Tensor x)
        {
            using var activation = SegmentStreamer.Current?.Activate(new TokenInfo { WriteWeights = full([x.size(0), x.size(1)], 0.5f) });
            return layer.call(x);
        }
    }
}
