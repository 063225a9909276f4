using System.Text.RegularExpressions;

namespace LongContext.Summaries;

/// <summary>How much of a reference a candidate holds (recall), and how much of the candidate is in the reference (precision); both 0 if either has nothing to compare.</summary>
public readonly record struct RougeScore(double Recall, double Precision)
{
    public double F => Recall + Precision > 0 ? 2 * Precision * Recall / (Precision + Recall) : 0;

    internal static RougeScore Of(int hits, int reference, int candidate) => reference > 0 && candidate > 0 ? new((double)hits / reference, (double)hits / candidate) : default;
}

/// <summary>The four scores of a candidate.</summary>
public sealed record RougeScores(RougeScore One, RougeScore Two, RougeScore L, RougeScore Lsum)
{
    public static RougeScores Of(string candidate, string reference) =>
        new(Rouge.NGrams(candidate, reference, 1), Rouge.NGrams(candidate, reference, 2), Rouge.L(candidate, reference), Rouge.Lsum(candidate, reference));
}

/// <summary>ROUGE (Lin 2004). Words are runs of letters a to z and digits, in lower case, without stemming.</summary>
public static partial class Rouge
{
    /// <summary>ROUGE-n: the n-grams that both have; one that repeats counts as often as it is in both.</summary>
    public static RougeScore NGrams(string candidate, string reference, int n)
    {
        var (inCandidate, inReference) = (Count(candidate), Count(reference));
        var hits = inReference.Sum(entry => Math.Min(entry.Value, inCandidate.GetValueOrDefault(entry.Key)));
        return RougeScore.Of(hits, inReference.Values.Sum(), inCandidate.Values.Sum());

        Dictionary<string, int> Count(string text)
        {
            var words = Words(text);
            return Enumerable.Range(0, Math.Max(0, words.Length - n + 1)).GroupBy(i => string.Join(' ', words.AsSpan(i, n).ToArray())).ToDictionary(of => of.Key, of => of.Count());
        }
    }

    /// <summary>ROUGE-L of whole texts: the longest sequence of words that both have in the same order, with gaps.</summary>
    public static RougeScore L(string candidate, string reference)
    {
        var (given, wanted) = (Words(candidate), Words(reference));
        return RougeScore.Of(InCommon(wanted, given).Count, wanted.Length, given.Length);
    }

    /// <summary>
    /// ROUGE-Lsum, for summaries of several lines: of each line of the reference the words that it has in common, in order, with any line of the candidate. A word counts at most as
    /// often as it is in the candidate.
    /// </summary>
    public static RougeScore Lsum(string candidate, string reference)
    {
        var (given, wanted) = (Lines(candidate), Lines(reference));
        var left = given.SelectMany(line => line).GroupBy(word => word).ToDictionary(of => of.Key, of => of.Count());
        var hits = 0;
        foreach (var line in wanted)
        {
            foreach (var place in given.SelectMany(other => InCommon(line, other)).Distinct())
            {
                if (left.GetValueOrDefault(line[place]) > 0)
                {
                    left[line[place]]--;
                    hits++;
                }
            }
        }

        return RougeScore.Of(hits, wanted.Sum(line => line.Length), given.Sum(line => line.Length));

        static string[][] Lines(string text) => [.. text.Split('\n').Select(Words)];
    }

    /// <summary>The places in <paramref name="a"/> of a longest common subsequence.</summary>
    private static List<int> InCommon(string[] a, string[] b)
    {
        var longest = new int[a.Length + 1, b.Length + 1]; // of the words from i and from j on
        for (var i = a.Length - 1; i >= 0; i--)
        {
            for (var j = b.Length - 1; j >= 0; j--)
            {
                longest[i, j] = a[i] == b[j] ? longest[i + 1, j + 1] + 1 : Math.Max(longest[i + 1, j], longest[i, j + 1]);
            }
        }

        var places = new List<int>(longest[0, 0]);
        for (var (i, j) = (0, 0); i < a.Length && j < b.Length;)
        {
            if (a[i] == b[j])
            {
                places.Add(i);
                (i, j) = (i + 1, j + 1);
            }
            else if (longest[i + 1, j] >= longest[i, j + 1])
            {
                i++;
            }
            else
            {
                j++;
            }
        }

        return places;
    }

    private static string[] Words(string text) => [.. Word().Matches(text.ToLowerInvariant()).Select(match => match.Value)];

    [GeneratedRegex("[a-z0-9]+")]
    private static partial Regex Word();
}
