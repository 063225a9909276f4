using System.Text.Json.Serialization;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>How far back a fact was last told.</summary>
public enum Distance
{
    NeverBefore,
    SameSegment,
    SegmentBefore,
    TwoToThree,
    FourToSeven,
    EightAndMore,
}

/// <summary>Loss and accuracy of the tokens of one distance.</summary>
public readonly record struct RecallCell(long Count, double Nats, double Accuracy);

/// <summary>The mean loss of tokens from a place on, to the next bin.</summary>
public readonly record struct LossBin(long From, long Count, double Nats);

/// <summary>How well a model predicts held-out documents, which it reads from their start.</summary>
/// <param name="Nats">The mean loss of all tokens.</param>
/// <param name="ByPosition">By distance from the start.</param>
/// <param name="ByPlace">By place in the segment.</param>
/// <param name="Cells">Of tokens that tell a fact, by where it was told last.</param>
public sealed record Scores(double Nats, IReadOnlyList<LossBin> ByPosition, IReadOnlyList<LossBin> ByPlace, IReadOnlyDictionary<Distance, RecallCell> Cells)
{
    /// <summary>Tokens that are read at a time; a document is a whole number of times as long.</summary>
    public const int StepTokens = 1024;

    [JsonIgnore]
    public double Perplexity => Math.Exp(Nats);

    /// <summary>Facts last told two segments ago and more.</summary>
    [JsonIgnore]
    public RecallCell Older
    {
        get
        {
            var cells = new[] { Distance.TwoToThree, Distance.FourToSeven, Distance.EightAndMore }.Where(Cells.ContainsKey).Select(distance => Cells[distance]).ToArray();
            var count = cells.Sum(cell => cell.Count);
            return new(count, cells.Sum(cell => cell.Nats * cell.Count) / count, cells.Sum(cell => cell.Accuracy * cell.Count) / count);
        }
    }

    /// <summary>Reads the documents as one batch.</summary>
    public static Scores Of(ContextDecoder model, DocumentBatch documents)
    {
        using var noGrad = no_grad();
        model.Forget();
        var (n, all) = (model.Options.SegmentLength, default(Sum));
        var (positions, places, distances) = (new SortedDictionary<long, Sum>(), new SortedDictionary<long, Sum>(), new SortedDictionary<Distance, Sum>());
        for (var start = 0; start < documents.Length; start += StepTokens)
        {
            using var scope = NewDisposeScope();
            var (logits, next) = (model.call(documents.Inputs(start, StepTokens)), documents.Targets(start, StepTokens));
            var losses = Losses(logits, next);
            var right = logits.argmax(-1).eq(next).flatten().data<bool>().ToArray();
            for (var i = 0; i < losses.Length; i++)
            {
                var (row, place) = (i / StepTokens, start + (i % StepTokens));
                var one = new Sum(1, losses[i], right[i] ? 1 : 0);
                all += one;
                Add(positions, Floor(place, StepTokens), one);
                Add(places, Floor(place % n, n / 8), one);
                if (documents[row].LastTold is { } told && told[place + 1] != Document.NoFact)
                {
                    Add(distances, DistanceOf(place + 1, told[place + 1], n), one);
                }
            }
        }

        model.Forget();
        return new(
            all.Nats / all.Count, Bins(positions), Bins(places),
            distances.ToDictionary(entry => entry.Key, entry => new RecallCell(entry.Value.Count, entry.Value.Nats / entry.Value.Count, (double)entry.Value.Right / entry.Value.Count)));

        static LossBin[] Bins(SortedDictionary<long, Sum> sums) => [.. sums.Select(entry => new LossBin(entry.Key, entry.Value.Count, entry.Value.Nats / entry.Value.Count))];
    }

    /// <summary>The mean loss of a model that forgets everything before each segment.</summary>
    public static double ClearedEachSegment(ContextDecoder model, DocumentBatch documents)
    {
        using var noGrad = no_grad();
        var (n, sum, count) = ((int)model.Options.SegmentLength, 0.0, 0L);
        for (var start = 0; start < documents.Length; start += StepTokens)
        {
            using var scope = NewDisposeScope();
            model.Forget();
            var inputs = documents.Inputs(start, StepTokens);
            foreach (var loss in Losses(model.call(inputs.view(-1, n, inputs.size(2))), documents.Targets(start, StepTokens)))
            {
                (sum, count) = (sum + loss, count + 1);
            }
        }

        model.Forget();
        return sum / count;
    }

    private static float[] Losses(Tensor logits, Tensor next) =>
        nn.functional.cross_entropy(logits.flatten(0, 1), next.flatten(), reduction: nn.Reduction.None).data<float>().ToArray();

    /// <summary>The begin of a number's bin: 0, then <paramref name="first"/> times a power of two.</summary>
    private static long Floor(long number, long first) => number < first ? 0 : first << (int)Math.Log2(number / first);

    /// <summary>The distance in segments, counted from the token before <paramref name="place"/>, which predicts it.</summary>
    private static Distance DistanceOf(int place, int lastTold, long segmentLength) => lastTold < 0 ? Distance.NeverBefore : (((place - 1) / segmentLength) - (lastTold / segmentLength)) switch
    {
        <= 0 => Distance.SameSegment,
        1 => Distance.SegmentBefore,
        < 4 => Distance.TwoToThree,
        < 8 => Distance.FourToSeven,
        _ => Distance.EightAndMore,
    };

    private static void Add<T>(SortedDictionary<T, Sum> sums, T key, Sum one) where T : notnull => sums[key] = sums.GetValueOrDefault(key) + one;

    private readonly record struct Sum(long Count, double Nats, long Right)
    {
        public static Sum operator +(Sum a, Sum b) => new(a.Count + b.Count, a.Nats + b.Nats, a.Right + b.Right);
    }
}
