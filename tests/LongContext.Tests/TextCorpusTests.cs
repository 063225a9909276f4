using System.Text;
using LongContext.Comparison;

namespace LongContext.Tests;

public sealed class TextCorpusTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Merges_are_learned_from_the_most_frequent_pairs_inside_words()
    {
        // Words: "low" 3 times, " low" and " lower" once each. "lo" and "ow" are equally frequent: the smaller tokens first, l before o.
        var encoding = BytePairs.Train([Bytes("low low"), Bytes("low"), Bytes("low lower")], 256 + 3);

        Assert.Equal(259, encoding.Vocabulary);
        Assert.Equal([(ushort)257], encoding.Encode(Bytes("low")));               // l+o = 256, lo+w = 257
        Assert.Equal([(ushort)258, 'e', 'r'], encoding.Encode(Bytes(" lower")));  // space+low = 258
        Assert.Equal(["w", "o", "l"], encoding.Encode(Bytes("wol")).Select(token => ((char)token).ToString()));
    }

    [Fact]
    public void Training_ends_when_no_pair_is_left_that_occurs_twice()
    {
        Assert.Equal(257, BytePairs.Train([Bytes("ab ab")], 1000).Vocabulary); // a+b; the space before it occurs once
    }

    [Fact]
    public void Decoding_undoes_encoding_for_any_bytes()
    {
        var random = new Random(5);
        var training = new byte[20_000];
        for (var i = 0; i < training.Length; i++)
        {
            training[i] = (byte)"ab cd\n1\u00e9"[random.Next(8)];
        }

        var encoding = BytePairs.Train([training], 400);
        var again = BytePairs.FromBytes(encoding.ToBytes());
        Assert.Equal(400, again.Vocabulary);
        for (var trial = 0; trial < 50; trial++)
        {
            var text = new byte[random.Next(200)];
            random.NextBytes(text);
            training.AsSpan(random.Next(10_000), text.Length / 2).CopyTo(text);
            Assert.Equal(text, encoding.Decode(encoding.Encode(text)));
            Assert.Equal(encoding.Encode(text), again.Encode(text));
        }

        Assert.True(encoding.Encode(training).Length < 0.7 * training.Length);
    }

    [Fact]
    public void Documents_are_pieces_of_the_files_and_the_same_for_the_same_seed_and_number()
    {
        string[] files = [Write("short", "the cat"), Write("one", Sentences(1, 300)), Write("two", Sentences(2, 900))];
        TextCorpus.Prepare(files, Write("last", Sentences(3, 2000)), 300, folder.File("text"));
        var corpus = TextCorpus.Load(folder.File("text"), length: 2100);

        Assert.True(TextCorpus.IsPrepared(folder.File("text")));
        Assert.Equal(2 * Scores.StepTokens + 1, corpus.HeldOut().Single().Tokens.Length); // whole steps, and the token before them
        Assert.StartsWith(Decoded(corpus.HeldOut().Single()), File.ReadAllText(folder.File("last")), StringComparison.Ordinal);
        Assert.Equal(corpus.Encoding.Decode(corpus.HeldOut().Single().Tokens[1..].ToArray()).Length / (2.0 * Scores.StepTokens), corpus.BytesPerToken!.Value, 1e-12);
        Assert.Contains("it must have more than 1024", Assert.Throws<InputException>(() => corpus.WithHeldOut(new byte[1024], 2048)).Message);

        var texts = files.Select(File.ReadAllText).ToArray();
        var found = Enumerable.Range(0, 200).Select(number => Array.FindIndex(texts, text => text.Contains(Decoded(corpus.Training(1, number, 65)), StringComparison.Ordinal))).ToArray();
        Assert.All(found, file => Assert.InRange(file, 1, 2));
        Assert.InRange(found.Count(file => file == 2), 120, 180); // three times as long, so three times as often
        Assert.Equal(corpus.Training(1, 7, 65).Tokens.ToArray(), corpus.Training(1, 7, 65).Tokens.ToArray());
        Assert.NotEqual(corpus.Training(1, 7, 65).Tokens.ToArray(), corpus.Training(2, 7, 65).Tokens.ToArray());
        Assert.Contains("No text has 100000 tokens", Assert.Throws<InputException>(() => corpus.Training(1, 0, 100_000)).Message);

        string Decoded(Document document) => Encoding.Latin1.GetString(corpus.Encoding.Decode(document.Tokens.ToArray()));
    }

    internal static string Sentences(int seed, int count)
    {
        string[] words = ["the", "cat", "dog", "sees", "a", "house", "and", "tree", "by", "river"];
        var random = new Random(seed);
        return string.Concat(Enumerable.Range(0, count).Select(_ => string.Join(' ', Enumerable.Range(0, 6).Select(_ => words[random.Next(words.Length)])) + ".\n"));
    }

    private static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    private string Write(string name, string text)
    {
        File.WriteAllText(folder.File(name), text);
        return folder.File(name);
    }
}
