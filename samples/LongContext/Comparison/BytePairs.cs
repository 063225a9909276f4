using System.Buffers.Binary;
using System.Text;
using System.Text.RegularExpressions;

namespace LongContext.Comparison;

/// <summary>
/// Byte-pair encoding (Sennrich et al., arXiv 1508.07909) on bytes: 256 tokens for the bytes, and one for each merge of the most frequent pair of neighbours inside a word.
/// </summary>
public sealed partial class BytePairs
{
    public const int Bytes = 256, LargestVocabulary = 2048;

    private readonly Dictionary<(ushort, ushort), ushort> merges = [];
    private readonly Dictionary<string, ushort[]> words = [];

    private BytePairs(IEnumerable<(ushort, ushort)> merges)
    {
        foreach (var pair in merges)
        {
            this.merges.Add(pair, (ushort)(Bytes + this.merges.Count));
        }
    }

    public int Vocabulary => Bytes + merges.Count;

    /// <summary>Learns the merges from texts.</summary>
    /// <param name="texts">The texts, which are read once.</param>
    /// <param name="vocabulary">How many tokens there shall be, from 256 to 2048; fewer come out where the texts have too few pairs.</param>
    public static BytePairs Train(IEnumerable<byte[]> texts, int vocabulary)
    {
        var counts = new Dictionary<string, long>();
        foreach (var word in texts.SelectMany(Words))
        {
            counts[word] = counts.GetValueOrDefault(word) + 1;
        }

        var words = counts.Select(entry => (Tokens: entry.Key.Select(letter => (ushort)letter).ToList(), Count: entry.Value)).ToList();
        var pairs = new long[vocabulary * vocabulary];
        var merges = new List<(ushort, ushort)>();
        while (Bytes + merges.Count < vocabulary)
        {
            Array.Clear(pairs);
            foreach (var (tokens, count) in words)
            {
                for (var i = 1; i < tokens.Count; i++)
                {
                    pairs[(tokens[i - 1] * vocabulary) + tokens[i]] += count;
                }
            }

            var best = Array.IndexOf(pairs, pairs.Max()); // of equals the one with the smaller tokens
            if (pairs[best] < 2)
            {
                break;
            }

            var (pair, merged) = (((ushort)(best / vocabulary), (ushort)(best % vocabulary)), (ushort)(Bytes + merges.Count));
            merges.Add(pair);
            foreach (var (tokens, _) in words)
            {
                Merge(tokens, pair, merged);
            }
        }

        return new(merges);
    }

    public ushort[] Encode(byte[] text) => [.. Words(text).SelectMany(EncodeWord)];

    /// <summary>The text of tokens.</summary>
    public byte[] Decode(IEnumerable<ushort> tokens)
    {
        var pairs = merges.ToDictionary(entry => entry.Value, entry => entry.Key);
        return [.. tokens.SelectMany(BytesOf)];

        IEnumerable<byte> BytesOf(ushort token) => pairs.TryGetValue(token, out var pair) ? BytesOf(pair.Item1).Concat(BytesOf(pair.Item2)) : [(byte)token];
    }

    /// <summary>The merges in their order, two numbers each.</summary>
    public byte[] ToBytes()
    {
        var bytes = new byte[4 * merges.Count];
        foreach (var ((left, right), token) in merges)
        {
            var place = bytes.AsSpan(4 * (token - Bytes));
            BinaryPrimitives.WriteUInt16LittleEndian(place, left);
            BinaryPrimitives.WriteUInt16LittleEndian(place[2..], right);
        }

        return bytes;
    }

    public static BytePairs FromBytes(byte[] bytes) => new(Enumerable.Range(0, bytes.Length / 4).Select(i =>
        (BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(4 * i)), BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan((4 * i) + 2)))));

    private ushort[] EncodeWord(string word)
    {
        if (words.TryGetValue(word, out var known))
        {
            return known;
        }

        var tokens = word.Select(letter => (ushort)letter).ToList();
        while (tokens.Zip(tokens.Skip(1)).Where(merges.ContainsKey).Select(pair => (Pair: pair, Merged: merges[pair])).OrderBy(merge => merge.Merged).FirstOrDefault() is { Merged: > 0 } first)
        {
            Merge(tokens, first.Pair, first.Merged);
        }

        return words[word] = [.. tokens];
    }

    private static void Merge(List<ushort> tokens, (ushort Left, ushort Right) pair, ushort merged)
    {
        for (var i = 1; i < tokens.Count; i++)
        {
            if (tokens[i - 1] == pair.Left && tokens[i] == pair.Right)
            {
                tokens[i - 1] = merged;
                tokens.RemoveAt(i);
            }
        }
    }

    /// <summary>Letters, digits or signs with a space before them, or white space; a letter of the string is a byte.</summary>
    private static IEnumerable<string> Words(byte[] text)
    {
        for (var match = Word().Match(Encoding.Latin1.GetString(text)); match.Success; match = match.NextMatch())
        {
            yield return match.Value;
        }
    }

    [GeneratedRegex(@" ?[A-Za-z\x80-\xff]+| ?[0-9]+| ?[^\sA-Za-z0-9\x80-\xff]+|\s+")]
    private static partial Regex Word();
}
