using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace LongContext.Models;

/// <summary>
/// The tokenizer of llama2.c (<c>tokenizer.bin</c>): byte pairs merged in the order of their scores, with bytes for what has no piece. Tokens 1 and 2 begin and end a text.
/// </summary>
internal sealed class Llama2cTokenizer : ITextTokenizer
{
    public const string FileName = "tokenizer.bin";

    private const int Begin = 1, End = 2, FirstByte = 3;

    private readonly byte[][] pieces;
    private readonly float[] scores;
    private readonly bool[] neighbours = new bool[1 << 16]; // whether a piece has these two bytes next to each other
    private readonly Dictionary<string, int> tokens = new(StringComparer.Ordinal); // pieces as Latin-1 text, because they need not be whole characters

    public Llama2cTokenizer(string path, long vocabulary)
    {
        if (!File.Exists(path))
        {
            throw new InputException($"There is no tokenizer '{path}'.");
        }

        (pieces, scores) = (new byte[vocabulary][], new float[vocabulary]);
        var bytes = File.ReadAllBytes(path);
        var at = sizeof(int); // after the length of the longest piece
        for (var token = 0; token < vocabulary; token++)
        {
            var length = at + 8 <= bytes.Length ? BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(at + 4)) : -1;
            if (length < 0 || length > bytes.Length - at - 8)
            {
                throw new InputException($"'{path}' has {token} tokens, but the model's vocabulary has {vocabulary}.");
            }

            scores[token] = BinaryPrimitives.ReadSingleLittleEndian(bytes.AsSpan(at));
            pieces[token] = bytes[(at + 8)..(at + 8 + length)];
            tokens.TryAdd(Encoding.Latin1.GetString(pieces[token]), token);
            for (var i = 1; i < length; i++)
            {
                neighbours[(pieces[token][i - 1] << 8) | pieces[token][i]] = true;
            }

            at += 8 + length;
        }

        if (at != bytes.Length)
        {
            throw new InputException($"'{path}' has more tokens than the {vocabulary} of the model's vocabulary.");
        }
    }

    public long[] Encode(string text)
    {
        var encoded = new List<long> { Begin };
        var run = new List<int>();
        foreach (var symbol in text.Length == 0 ? [] : Symbols(" " + text))
        {
            if (run.Count > 0 && !CanMerge(run[^1], symbol))
            {
                AddRun();
            }

            run.Add(symbol);
        }

        AddRun();
        return [.. encoded];

        void AddRun()
        {
            encoded.AddRange(Merged(run).Select(token => (long)token));
            run.Clear();
        }
    }

    public string Decode(IReadOnlyList<long> tokens)
    {
        var bytes = new List<byte>();
        for (var i = 0; i < tokens.Count; i++)
        {
            var piece = pieces[tokens[i]];
            if (tokens[i] is Begin or End)
            {
                continue;
            }

            if (piece is [(byte)'<', (byte)'0', (byte)'x', _, _, (byte)'>'])
            {
                bytes.Add(byte.Parse(Encoding.ASCII.GetString(piece, 3, 2), NumberStyles.HexNumber, CultureInfo.InvariantCulture));
            }
            else
            {
                bytes.AddRange(i > 0 && tokens[i - 1] == Begin && piece is [(byte)' ', ..] ? piece[1..] : piece); // the space that Encode put before the text
            }
        }

        return Encoding.UTF8.GetString([.. bytes]);
    }

    public void Dispose()
    {
    }

    /// <summary>A token for each character, or for each byte of a character without a piece.</summary>
    private IEnumerable<int> Symbols(string text) => text.EnumerateRunes().SelectMany(character =>
    {
        var utf8 = Encoding.UTF8.GetBytes(character.ToString());
        return tokens.TryGetValue(Encoding.Latin1.GetString(utf8), out var token) ? [token] : utf8.Select(one => FirstByte + one);
    });

    /// <summary>
    /// Whether a token that ends with one symbol's bytes may go on with those of the next. Where no piece allows it the text can be cut without a change to any token:
    /// what is merged at once then has the length of a word, not of a book.
    /// </summary>
    private bool CanMerge(int left, int right) => pieces[left] is not [.., var last] || pieces[right] is not [var first, ..] || neighbours[(last << 8) | first];

    /// <summary>Merges the neighbours whose piece has the highest score, the leftmost of several, until none have one.</summary>
    private IEnumerable<int> Merged(List<int> symbols)
    {
        var (previous, next) = (new int[symbols.Count], new int[symbols.Count]);
        for (var i = 0; i < symbols.Count; i++)
        {
            (previous[i], next[i]) = (i - 1, i + 1);
        }

        var merges = new PriorityQueue<(int Left, int Right, int Of, int And, int Token), (float, int)>();
        for (var i = 0; i + 1 < symbols.Count; i++)
        {
            Offer(i, i + 1);
        }

        while (merges.TryDequeue(out var merge, out _))
        {
            if (next[merge.Left] != merge.Right || symbols[merge.Left] != merge.Of || symbols[merge.Right] != merge.And)
            {
                continue; // one of them was merged with another neighbour since
            }

            symbols[merge.Left] = merge.Token;
            symbols[merge.Right] = -1;
            next[merge.Left] = next[merge.Right];
            if (next[merge.Left] < symbols.Count)
            {
                previous[next[merge.Left]] = merge.Left;
                Offer(merge.Left, next[merge.Left]);
            }

            if (previous[merge.Left] >= 0)
            {
                Offer(previous[merge.Left], merge.Left);
            }
        }

        return symbols.Where(symbol => symbol >= 0);

        void Offer(int left, int right)
        {
            var piece = Encoding.Latin1.GetString(pieces[symbols[left]]) + Encoding.Latin1.GetString(pieces[symbols[right]]);
            if (tokens.TryGetValue(piece, out var token))
            {
                merges.Enqueue((left, right, symbols[left], symbols[right], token), (-scores[token], left));
            }
        }
    }
}
