using System.Globalization;
using LongContext.Summaries;

namespace LongContext.Tests;

/// <summary>Scores that were worked out by hand.</summary>
public sealed class RougeTests
{
    [Theory]
    [InlineData("the cat sat", "the cat sat on the mat", 1, 3 / 6.0, 3 / 3.0)]
    [InlineData("the cat sat", "the cat sat on the mat", 2, 2 / 5.0, 2 / 2.0)]
    [InlineData("the the the the", "the cat the dog", 1, 2 / 4.0, 2 / 4.0)]             // a repeated word counts as often as it is in both
    [InlineData("a b a b a b", "b a b a", 2, 3 / 3.0, 3 / 5.0)]                         // "b a" twice and "a b" once, of "a b" 3 times and "b a" twice
    [InlineData("a b a b", "a b c a b", 2, 2 / 4.0, 2 / 3.0)]                           // "a b" twice; "b a" is in the candidate alone
    [InlineData("Police killed, the gunman.", "police KILLED the gunman", 2, 1.0, 1.0)] // neither case nor signs count
    [InlineData("in 1801: 12 men", "In 1801, 13 men", 1, 3 / 4.0, 3 / 4.0)]
    [InlineData("one", "one", 2, 0.0, 0.0)]                                             // a word is no pair
    [InlineData("", "a reference", 1, 0.0, 0.0)]
    [InlineData("a candidate", "...", 1, 0.0, 0.0)]
    [InlineData("", "", 1, 0.0, 0.0)]
    [InlineData("red", "blue", 1, 0.0, 0.0)]
    public void Ngrams_that_both_have_are_counted(string candidate, string reference, int n, double recall, double precision)
    {
        var score = Rouge.NGrams(candidate, reference, n);

        Assert.Equal((recall, precision), (score.Recall, score.Precision));
        Assert.Equal(recall + precision == 0 ? 0 : 2 * recall * precision / (recall + precision), score.F, 12);
    }

    [Theory]
    [InlineData("the cat sat", "the cat sat on the mat", 3 / 6.0, 3 / 3.0)]
    [InlineData("police kill the gunman", "police killed the gunman", 3 / 4.0, 3 / 4.0)]   // Lin's example
    [InlineData("the gunman kill police", "police killed the gunman", 2 / 4.0, 2 / 4.0)]   // order counts: "the gunman"
    [InlineData("a x b y c", "c a b c", 3 / 4.0, 3 / 5.0)]                                 // "a b c", with gaps
    [InlineData("a b\nc d", "c d\na b", 2 / 4.0, 2 / 4.0)]                                 // of whole texts: lines do not matter
    [InlineData("", "a", 0.0, 0.0)]
    [InlineData("a", "", 0.0, 0.0)]
    public void The_longest_common_subsequence_is_that_of_the_whole_texts(string candidate, string reference, double recall, double precision)
    {
        var score = Rouge.L(candidate, reference);

        Assert.Equal((recall, precision), (score.Recall, score.Precision));
    }

    [Theory]
    [InlineData("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 4 / 5.0, 4 / 10.0)] // Lin's example: w1 w2 and w1 w3 w5 make w1 w2 w3 w5
    [InlineData("a b\nc d", "c d\na b", 1.0, 1.0)]                                       // each line has its own
    [InlineData("a b", "a b\na b", 2 / 4.0, 2 / 2.0)]                                    // what is in the candidate once counts once
    [InlineData("a b c\nx", "c b\na x", 3 / 4.0, 3 / 4.0)]                               // of "c b" one word is in order; of "a x" the lines give a and x
    [InlineData("", "a\nb", 0.0, 0.0)]
    [InlineData("a\n\n", "a\n", 1.0, 1.0)]                                               // empty lines are nothing
    public void Lines_of_the_reference_unite_what_they_have_in_common_with_all_lines(string candidate, string reference, double recall, double precision)
    {
        var score = Rouge.Lsum(candidate, reference);

        Assert.Equal((recall, precision), (score.Recall, score.Precision));
    }

    [Fact]
    public void The_example_of_the_specification()
    {
        var scores = RougeScores.Of("the cat sat", "the cat sat on the mat");

        var percents = new[] { scores.One, scores.Two, scores.L, scores.Lsum }.Select(score => (100 * score.F).ToString("0.0", CultureInfo.InvariantCulture));
        Assert.Equal(["66.7", "57.1", "66.7", "66.7"], percents);
    }
}
