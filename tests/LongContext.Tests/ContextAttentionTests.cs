using LongContext.Comparison;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Tests;

/// <summary>The attention of each compared system, against its paper's definition computed token by token.</summary>
public sealed class ContextAttentionTests
{
    private const int N = 4, Heads = 2, Width = 6, Tokens = 14 * N;

    private static readonly DecoderOptions Sizes = new() { Vocabulary = 20, Width = 8, Layers = 2, Heads = Heads, HeadWidth = Width, SegmentLength = N };

    public static TheoryData<string> Systems => [.. ComparedSystem.All.Select(system => system.Name)];

    [Theory]
    [MemberData(nameof(Systems))]
    public void On_a_single_segment_all_systems_are_the_same_function(string name)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(1);
        using var local = new ContextDecoder(Sizes, _ => new LocalContext(Sizes));
        using var model = ComparedSystem.Named(name).Create(Sizes);
        var missing = model.Take(local);
        Assert.All(missing, parameter => Assert.True(parameter.EndsWith("gate", StringComparison.Ordinal) || parameter.Contains("memory", StringComparison.Ordinal), parameter));
        var tokens = Tokens3(3, N);
        Close(local.call(tokens), model.call(tokens), 1e-5);

        // The same holds for a second document after Forget.
        model.call(tokens);
        model.Forget();
        local.Forget();
        Close(local.call(tokens), model.call(tokens), 1e-5);
    }

    [Theory]
    [MemberData(nameof(Systems))]
    public void Cutting_a_document_into_calls_changes_nothing(string name)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(2);
        using var model = ComparedSystem.Named(name).Create(Sizes);
        var tokens = Tokens3(2, Tokens);
        var whole = model.call(tokens);
        model.Forget();
        var first = model.call(tokens.narrow(1, 0, 3 * N));
        Close(whole, cat([first, model.call(tokens.narrow(1, 3 * N, N)), model.call(tokens.narrow(1, 4 * N, Tokens - (4 * N)))], 1), 1e-5);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TransformerXL_and_Memorizing_Transformers_compute_what_their_papers_define(bool memorizes)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(3);
        using ContextAttention attention = memorizes ? new MemorizingContext(Sizes) : new TransformerXLContext(Sizes);
        var weights = attention.state_dict();
        if (memorizes)
        {
            weights["gate"].copy_(tensor(new[] { -0.5f, 1 }));
            weights["memory_scale"].copy_(tensor(new[] { 4f, 12 }));
        }

        var x = randn(1, Tokens, Sizes.Width);
        var (q, k, v) = (Project(x[0], weights["q_proj.weight"]), Project(x[0], weights["k_proj.weight"]), Project(x[0], weights["v_proj.weight"]));
        var rows = new List<Tensor>();
        for (var t = 0; t < Tokens; t++)
        {
            var segment = t / N * N;
            var heads = new List<Tensor>();
            for (var h = 0; h < Heads; h++)
            {
                int[] seen = [.. Enumerable.Range(Math.Max(0, segment - N), t - Math.Max(0, segment - N) + 1)];
                var near = Attend(seen, i => Rotate(Head(k[i], h), i).dot(Rotate(Head(q[t], h), t)).item<float>(), i => Head(v[i], h));
                if (memorizes && segment > 0)
                {
                    double Cosine(int i) => (Head(k[i], h).dot(Head(q[t], h)) / Head(k[i], h).norm() / Head(q[t], h).norm()).item<float>();
                    var (share, scale) = (weights["gate"][h].sigmoid(), weights["memory_scale"][h].item<float>());
                    int[] found = [.. Enumerable.Range(0, segment).OrderByDescending(Cosine).Take(32)];
                    near = (share * Attend(found, i => scale * Math.Sqrt(Width) * Cosine(i), i => Head(v[i], h))) + ((1 - share) * near);
                }

                heads.Add(near);
            }

            rows.Add(cat(heads, 0));
        }

        var expected = stack(rows, 0).matmul(weights["o_proj.weight"].t());
        Close(expected, attention.call(x)[0], 1e-4);
    }

    [Fact]
    public void The_numbers_held_are_counted_as_in_the_papers()
    {
        DecoderOptions paper = new() { Vocabulary = 8, Width = 1024, Layers = 1, Heads = 8, HeadWidth = 128, SegmentLength = 2048 };
        using var xl = new TransformerXLContext(paper);
        using var infini = new InfiniContext(paper);
        Assert.Equal(50_331_648, 12 * xl.NumbersHeld(1 << 20));
        Assert.Equal(1_585_152, 12 * infini.NumbersHeld(1 << 20));
        using var recurrent = new RecurrentMemoryContext(paper, memoryTokens: 100);
        Assert.Equal(2_457_600, 12 * recurrent.NumbersHeld(1 << 20));
        using var full = new FullContext(paper);
        Assert.Equal(2L * 1024 * 32_768, full.NumbersHeld(32_768));
        DecoderOptions ours = new() { Vocabulary = 128 };
        using var memorizing = ComparedSystem.Named("memorizing").Create(ours);
        Assert.Equal(835_584, memorizing.Attentions.Sum(attention => attention.NumbersHeld(1 << 20)));
    }

    [Fact]
    public void No_gradient_flows_into_what_TransformerXL_and_Memorizing_Transformers_keep()
    {
        using var scope = NewDisposeScope();
        foreach (var attention in new ContextAttention[] { new TransformerXLContext(Sizes), new MemorizingContext(Sizes) })
        {
            var x = randn(1, 2 * N, Sizes.Width).requires_grad_(true);
            attention.call(x).narrow(1, N, N).sum().backward();
            Assert.Equal(0, x.grad!.narrow(1, 0, N).abs().max().item<float>());
            Assert.NotEqual(0, x.grad!.narrow(1, N, N).abs().max().item<float>());
        }
    }

    [Fact]
    public void Full_attention_sees_all_of_the_document()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(4);
        using var attention = new FullContext(Sizes);
        var weights = attention.state_dict();
        var x = randn(1, Tokens, Sizes.Width);
        var (q, k, v) = (Project(x[0], weights["q_proj.weight"]), Project(x[0], weights["k_proj.weight"]), Project(x[0], weights["v_proj.weight"]));
        var rows = Enumerable.Range(0, Tokens).Select(t => cat(Enumerable.Range(0, Heads).Select(h => Attend(
            [.. Enumerable.Range(0, t + 1)], i => Rotate(Head(k[i], h), i).dot(Rotate(Head(q[t], h), t)).item<float>(), i => Head(v[i], h))).ToArray(), 0));
        var expected = stack(rows.ToArray(), 0).matmul(weights["o_proj.weight"].t());
        Close(expected, cat([attention.call(x.narrow(1, 0, 3 * N)), attention.call(x.narrow(1, 3 * N, Tokens - (3 * N)))], 1)[0], 1e-4);
    }

    [Fact]
    public void A_recurrent_memory_is_what_its_paper_says()
    {
        const int P = 3;
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(5);
        using var attention = new RecurrentMemoryContext(Sizes, P);
        using var memory = new RecurrentMemory(Sizes, P);
        var weights = attention.state_dict();
        var x = randn(1, 3 * N, Sizes.Width);
        var carried = memory.state_dict()["initial"];
        var expected = new List<Tensor>();
        for (var s = 0; s < 3; s++)
        {
            var all = cat([carried, x[0].narrow(0, s * N, N), carried], 0); // [memory, segment, memory]; the "layers" are this one attention
            var (q, k, v) = (Project(all, weights["q_proj.weight"]), Project(all, weights["k_proj.weight"]), Project(all, weights["v_proj.weight"]));
            var rows = new List<Tensor>();
            for (var t = 0; t < P + N + P; t++)
            {
                var last = t < P ? P : t < P + N ? t + 1 : P + N + P;
                int[] seen = [.. Enumerable.Range(0, last).Where(i => s > 0 || t < P || i >= P)];
                rows.Add(cat(Enumerable.Range(0, Heads).Select(h => Attend(
                    seen, i => Rotate(Head(k[i], h), i - P).dot(Rotate(Head(q[t], h), t - P)).item<float>(), i => Head(v[i], h))).ToArray(), 0));
            }

            var y = stack(rows, 0).matmul(weights["o_proj.weight"].t());
            expected.Add(y.narrow(0, P, N));
            carried = y.narrow(0, P + N, P);
        }

        var actual = cat([memory.call(x.narrow(1, 0, N), attention.call), memory.call(x.narrow(1, N, 2 * N), attention.call)], 1);
        Close(cat(expected, 0), actual[0], 1e-4);
    }

    [Fact]
    public void Gradients_flow_through_a_recurrent_memory_until_it_is_detached()
    {
        using var scope = NewDisposeScope();
        foreach (var isDetached in new[] { false, true })
        {
            manual_seed(6);
            using var model = ComparedSystem.Named("rmt").Create(Sizes with { SegmentLength = 8 });
            model.call(Tokens3(1, 8));
            if (isDetached)
            {
                model.Detach();
            }

            model.call(Tokens3(1, 8)).sum().backward();
            var reaches = model.named_parameters().Single(entry => entry.name == "memory.initial").parameter.grad?.abs().sum().item<float>() > 0;
            Assert.Equal(!isDetached, reaches);
        }
    }

    /// <summary>A layer of an Infini system inside a streamer continues the streamer's state, and outside of it its own: the same function.</summary>
    [Fact]
    public void A_streamer_reads_the_same_as_the_model_by_itself()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(7);
        using var model = ComparedSystem.Named("norm-delta").Create(Sizes);
        var tokens = Tokens3(2, Tokens);
        using var streamer = new InfiniAttention.SegmentStreamer(model) { WindowTokens = 3 * N };
        Close(model.call(tokens), streamer.Forward(tokens), 1e-5);
    }

    /// <summary>Random tokens and the two before each, (B, T, 3).</summary>
    private static Tensor Tokens3(int batch, int count) =>
        new DocumentBatch([.. Enumerable.Range(0, batch).Select(_ => new Document(randint(Sizes.Vocabulary, [count + 1], int64).data<long>().Select(token => (ushort)token).ToArray()))])
            .Inputs(0, count);

    private static Tensor Project(Tensor x, Tensor weight) => x.matmul(weight.t());

    private static Tensor Head(Tensor of, int head) => of.narrow(0, head * Width, Width);

    /// <summary>Softmax attention of one query to the places it sees.</summary>
    private static Tensor Attend(int[] seen, Func<int, double> similarity, Func<int, Tensor> value)
    {
        var scores = seen.Select(i => Math.Exp(similarity(i) / Math.Sqrt(Width))).ToArray();
        return seen.Select((i, j) => value(i) * (scores[j] / scores.Sum())).Aggregate((a, b) => a + b);
    }

    /// <summary>Rotary halves, base 10000.</summary>
    private static Tensor Rotate(Tensor x, int position)
    {
        var numbers = x.data<float>().ToArray();
        var turned = new float[Width];
        for (var i = 0; i < Width / 2; i++)
        {
            var angle = position * Math.Pow(10000, -2.0 * i / Width);
            turned[i] = (float)((numbers[i] * Math.Cos(angle)) - (numbers[i + (Width / 2)] * Math.Sin(angle)));
            turned[i + (Width / 2)] = (float)((numbers[i] * Math.Sin(angle)) + (numbers[i + (Width / 2)] * Math.Cos(angle)));
        }

        return tensor(turned);
    }

    private static void Close(Tensor expected, Tensor actual, double tolerance)
    {
        var difference = (expected - actual).abs().max().item<float>();
        Assert.True(difference <= tolerance, $"differs by {difference}, more than the allowed {tolerance}");
    }
}
