using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Recall;

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

/// <summary>How well a model predicts held-out chronicles, which it reads from their start.</summary>
/// <param name="Perplexity">The perplexity of all tokens.</param>
/// <param name="Cells">The facts by distance.</param>
public sealed record RecallScores(double Perplexity, IReadOnlyDictionary<Distance, RecallCell> Cells)
{
    private const int StepTokens = 1024;

    /// <summary>Facts last told two segments ago and more.</summary>
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
    public static RecallScores Of(Decoder model, IReadOnlyList<Chronicle> documents)
    {
        using var noGrad = no_grad();
        model.Forget();
        var length = documents[0].Tokens.Count - 1;
        var lastTold = documents.Select(document => document.LastTold()).ToArray();
        var sums = new Dictionary<Distance, (long Count, double Nats, long Right)>();
        var all = 0.0;
        for (var start = 0; start < length; start += StepTokens)
        {
            using var scope = NewDisposeScope();
            var width = Math.Min(StepTokens, length - start);
            var logits = model.call(RecallTrainer.Tokens(documents, start, width));
            var next = RecallTrainer.Tokens(documents, start + 1, width);
            var losses = nn.functional.cross_entropy(logits.flatten(0, 1), next.flatten(), reduction: nn.Reduction.None).data<float>().ToArray();
            var right = logits.argmax(-1).eq(next).flatten().data<bool>().ToArray();
            for (var i = 0; i < losses.Length; i++)
            {
                all += losses[i];
                var (row, place) = (i / width, start + (i % width) + 1);
                if (documents[row].Facts[place] == 0)
                {
                    continue;
                }

                var distance = DistanceOf(place, lastTold[row][place], model.Options.SegmentLength);
                var (count, nats, correct) = sums.GetValueOrDefault(distance);
                sums[distance] = (count + 1, nats + losses[i], correct + (right[i] ? 1 : 0));
            }
        }

        model.Forget();
        return new(
            Math.Exp(all / ((double)length * documents.Count)),
            sums.ToDictionary(entry => entry.Key, entry => new RecallCell(entry.Value.Count, entry.Value.Nats / entry.Value.Count, (double)entry.Value.Right / entry.Value.Count)));
    }

    /// <summary>The distance in segments, counted from the token before <paramref name="place"/>, which predicts it.</summary>
    private static Distance DistanceOf(int place, int lastTold, long segmentLength) => lastTold < 0 ? Distance.NeverBefore : (((place - 1) / segmentLength) - (lastTold / segmentLength)) switch
    {
        <= 0 => Distance.SameSegment,
        1 => Distance.SegmentBefore,
        < 4 => Distance.TwoToThree,
        < 8 => Distance.FourToSeven,
        _ => Distance.EightAndMore,
    };
}
