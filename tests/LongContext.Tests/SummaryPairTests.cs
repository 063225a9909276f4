using System.Text;
using LongContext.Comparison;
using LongContext.Summaries;

namespace LongContext.Tests;

/// <summary>Pairs of texts and summaries, generated or read from a file, and what is trained on of them.</summary>
public sealed class SummaryPairTests : IDisposable
{
    internal static readonly SummaryEncoding Encoded = new(BytePairs.Train(YearBookExamples.Samples(60).Select(pair => Encoding.UTF8.GetBytes(pair.Text + "\n" + pair.Summary)), 700));

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Generated_texts_tell_the_facts_of_their_summary_in_order()
    {
        for (var seed = 0; seed < 50; seed++)
        {
            var (pair, facts) = (Book(seed, 4 + (seed % 5)), 4 + (seed % 5));
            var places = pair.Lines.Select(line => pair.Text.IndexOf($" {line}", StringComparison.Ordinal)).ToArray();

            Assert.Equal(facts, places.Length);
            Assert.All(places, place => Assert.NotEqual(-1, place));
            Assert.Equal(places.Order(), places);
            Assert.Equal(Enumerable.Range(1801, facts).Select(year => $"In {year}"), pair.Lines.Select(line => line[..7]));
            Assert.All(places.Select((place, i) => (double)place / pair.Text.Length * facts - i), inScene => Assert.InRange(inScene, -0.4, 1.4));
            var words = pair.Lines.SelectMany(line => line.Split(' ', '.').Skip(1).Take(5)).ToArray();
            Assert.Equal(words.Length, words.Distinct().Count()); // no two facts share a name, a verb or a place
            var filler = pair.Lines.Aggregate(pair.Text, (text, line) => text.Replace(line, "", StringComparison.Ordinal));
            Assert.DoesNotContain(filler.Split(' ', '.', ','), words.Contains); // nor does the filler name one
        }
    }

    [Fact]
    public void A_seed_gives_one_text()
    {
        Assert.Equal(Book(7, 5), Book(7, 5));
        Assert.NotEqual(Book(7, 5).Text, Book(8, 5).Text);
        Assert.NotEqual(Book(7, 5).Summary, Book(8, 5).Summary);
    }

    [Fact]
    public void A_part_of_the_text_tells_about_that_part_of_the_facts()
    {
        var pairs = Enumerable.Range(0, 100).Select(seed => Book(seed, 8)).ToArray();
        foreach (var share in new[] { 0.125, 0.25, 0.5 })
        {
            var told = pairs.Average(pair => pair.Lines.Count(line => pair.FirstPart(share).Contains(line, StringComparison.Ordinal)) / 8.0);
            Assert.InRange(told, share - 0.1, share + 0.02);
        }
    }

    [Theory]
    [InlineData("One two. Three four. Five", 0.5, "One two.")]
    [InlineData("One two. Three four. Five", 0.99, "One two. Three four.")]
    [InlineData("One two. Three four. Five", 1, "One two. Three four. Five")]
    [InlineData("3.14 is a number! Or?", 0.5, "3.14 is a ")] // no sentence ends in the part
    [InlineData("a heading\nOne two three four", 0.5, "a heading\n")]
    public void A_part_of_a_text_ends_with_a_sentence(string text, double share, string part) => Assert.Equal(part, new SummaryPair(text, "").FirstPart(share));

    [Fact]
    public void Pairs_are_read_from_lines_of_json()
    {
        File.WriteAllText(folder.File("pairs"), """{"text": "Ünë \"text\".", "summary": "line 1\nline 2"}""" + "\n\n" + """{"summary": "s", "text": "t", "id": 3}""" + "\n");

        Assert.Equal([new SummaryPair("Ünë \"text\".", "line 1\nline 2"), new SummaryPair("t", "s")], SummaryPair.Read(folder.File("pairs")));
        Assert.Equal(["line 1", "line 2"], SummaryPair.Read(folder.File("pairs")).First().Lines);
    }

    [Theory]
    [InlineData("{\"text\": \"a\", \"summary\": \"b\"}\nnothing", "line 2: this is no pair")]
    [InlineData("{\"text\": \"a\"}", "line 1: this is no pair")]
    [InlineData("\n\n{\"text\": \"a\", \"summary\": 5}", "line 3: this is no pair")]
    [InlineData("{\"text\": \"\", \"summary\": \"b\"}", "line 1: this is no pair")]
    [InlineData("null", "line 1: this is no pair")]
    [InlineData("\n", "holds no pairs")]
    public void Files_without_pairs_are_refused(string content, string message)
    {
        File.WriteAllText(folder.File("pairs"), content);

        var error = Assert.Throws<InputException>(() => SummaryPair.Read(folder.File("pairs")).Count()).Message;

        Assert.Contains(message, error);
        Assert.Contains(folder.File("pairs"), error);
    }

    [Theory]
    [InlineData(65)]
    [InlineData(257)]
    public void Examples_fit_their_length_and_end_with_the_mark(int tokens)
    {
        SummaryPair[] given = [new(new string('x', 400) + ". The end.", "A short one."), new("Short.", new string('y', 300))];
        foreach (var examples in new[] { SummaryExamples.Of(Encoded, null), SummaryExamples.Of(Encoded, given) })
        {
            for (var number = 0; number < 20; number++)
            {
                var example = examples.Training(1, number, tokens);

                Assert.InRange(example.Prompt.Length + example.Answer.Length, 12, tokens);
                Assert.EndsWith("\nSummary: ", Encoded.Decode(example.Prompt), StringComparison.Ordinal);
                Assert.Equal(example.Answer, examples.Training(1, number, tokens).Answer);
                if (examples is YearBookExamples)
                {
                    Assert.Equal(Encoded.End, example.Answer[^1]);
                    Assert.Contains(" " + SummaryPair.LinesOf(Encoded.Decode(example.Answer))[0], Encoded.Decode(example.Prompt));
                }
            }
        }
    }

    [Fact]
    public void Held_out_texts_have_the_length_asked_for_and_are_in_no_training()
    {
        var examples = new YearBookExamples(Encoded);
        var pairs = examples.HeldOut(10, 512);

        Assert.All(pairs, pair => Assert.InRange(Encoded.Prompt(Encoded.Encode(pair.Text)).Length + Encoded.Answer(pair.Summary).Length, 512 - 24, 512));
        Assert.Equal([4, 5, 6, 7, 8], pairs.Select(pair => pair.Lines.Count).Distinct().Order());
        var trained = Enumerable.Range(0, 300).Select(number => Encoded.Decode(examples.Training(1, number, 257).Answer)).ToArray();
        Assert.All(pairs, pair => Assert.DoesNotContain(pair.Summary, trained));
    }

    internal static SummaryPair Book(int seed, int facts) => YearBook.Create(seed, facts, filler: 3000, sentence => sentence.Length);
}
