using LongContext.LanguageModel;
using LongContext.Recall;
using static TorchSharp.torch;

namespace LongContext.Tests;

/// <summary>The attention of each compared system, against its paper's definition computed token by token.</summary>
public sealed class ContextAttentionTests
{
    private const int N = 4, Heads = 2, Width = 6, Tokens = 14 * N;

    private static readonly DecoderOptions Sizes = new() { Vocabulary = 20, Width = 8, Layers = 2, Heads = Heads, HeadWidth = Width, SegmentLength = N };

    public static TheoryData<string> Systems => [.. RecallSystem.All.Select(system => system.Name)];

    [Theory]
    [MemberData(nameof(Systems))]
    public void On_a_single_segment_all_systems_are_the_same_function(string name)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(1);
        using var local = new Decoder(Sizes, _ => new LocalContext(Sizes));
        using var model = RecallSystem.Named(name).Create(Sizes);
        var missing = model.Take(local);
        Assert.All(missing, parameter => Assert.True(parameter.EndsWith("gate", StringComparison.Ordinal) || parameter.Contains("memory_", StringComparison.Ordinal), parameter));
        var tokens = randint(Sizes.Vocabulary, [3, N], int64);
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
        using var model = RecallSystem.Named(name).Create(Sizes);
        var tokens = randint(Sizes.Vocabulary, [2, Tokens], int64);
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
        }

        var x = randn(1, Tokens, Sizes.Width);
        Tensor Project(string name) => x[0].matmul(weights[$"{name}.weight"].t());
        var (q, k, v) = (Project("q_proj"), Project("k_proj"), Project("v_proj"));
        var rows = new List<Tensor>();
        for (var t = 0; t < Tokens; t++)
        {
            var segment = t / N * N;
            var heads = new List<Tensor>();
            for (var h = 0; h < Heads; h++)
            {
                Tensor Head(Tensor of, int i) => of[i].narrow(0, h * Width, Width);
                int[] seen = [.. Enumerable.Range(Math.Max(0, segment - N), t - Math.Max(0, segment - N) + 1)];
                var near = Attend(seen, i => Rotate(Head(k, i), i).dot(Rotate(Head(q, t), t)).item<float>());
                if (memorizes && segment > 0)
                {
                    double Similarity(int i) => Head(k, i).dot(Head(q, t)).item<float>();
                    var share = weights["gate"][h].sigmoid();
                    near = (share * Attend([.. Enumerable.Range(0, segment).OrderByDescending(Similarity).Take(32)], Similarity)) + ((1 - share) * near);
                }

                heads.Add(near);

                Tensor Attend(int[] of, Func<int, double> similarity)
                {
                    var scores = of.Select(i => Math.Exp(similarity(i) / Math.Sqrt(Width))).ToArray();
                    return of.Select((i, j) => Head(v, i) * (scores[j] / scores.Sum())).Aggregate((a, b) => a + b);
                }
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
        Assert.Equal(50_331_648, 12 * xl.NumbersHeld);
        Assert.Equal(1_585_152, 12 * infini.NumbersHeld);
        DecoderOptions ours = new() { Vocabulary = 128 };
        using var memorizing = RecallSystem.Named("memorizing").Create(ours);
        Assert.Equal(835_584, memorizing.Attentions.Sum(attention => attention.NumbersHeld));
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
