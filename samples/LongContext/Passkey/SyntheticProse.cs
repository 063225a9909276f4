using System.Text;

namespace LongContext.Passkey;

/// <summary>
/// Text that imitates everything a key may be hidden in: words, made-up words, sentences, numbers, and noise of any byte,
/// in proportions that differ from text to text. A model trained on it does not mistake a book, code or a table for a key.
/// </summary>
public sealed class SyntheticProse
{
    private static readonly string[] Common =
        ("the of and to a in that was he it his with as had for not is be at on you by her she which from this but all they were are "
        + "one so when what there their my me no pass key remember important info grass sky sun go back again").Split(' ');

    private const string Letters = "eeeeeetttttaaaaooooiiiinnnnsssshhhrrrddllcummwfggypbbvkjxqz";
    private static readonly string[] SentenceEnds = [". ", ". ", ". ", "? ", "! ", ".\n", ".\n\n", ".\" \""];
    private static readonly string[] Marks = ["; ", ": ", "--", "\n", "-", "'s ", "\" ", " \"", " (", ") ", "_ "];
    private static readonly int[] NumberLengths = [1, 1, 2, 2, 3, 4, 4, 5, 6, 8];

    private readonly Random random;
    private readonly double numbers, capitals, noise;
    private readonly bool anyByte;

    public SyntheticProse(Random random)
    {
        this.random = random;
        numbers = Pick<double>([0, 0.002, 0.02, 0.1]);
        capitals = Pick<double>([0.03, 0.1, 0.3]);
        noise = Pick<double>([0, 0.005, 0.02, 0.1]);
        anyByte = random.NextDouble() < 0.5;
    }

    public byte[] Write(int length)
    {
        var text = new List<byte>(length + 32);
        var sentenceBegins = true;
        while (text.Count < length)
        {
            var kind = random.NextDouble();
            var word = kind < numbers ? Number() : kind < numbers + noise ? Noise() : Word();
            if (sentenceBegins || random.NextDouble() < capitals)
            {
                word[0] = Upper(word[0]);
            }

            if (random.NextDouble() < 0.01)
            {
                word = Array.ConvertAll(word, Upper);
            }

            text.AddRange(word);
            text.AddRange(Encoding.ASCII.GetBytes(Separator(out sentenceBegins)));
        }
        return [.. text.Take(length)];
    }

    private string Separator(out bool sentenceEnds)
    {
        var kind = random.NextDouble();
        sentenceEnds = kind is >= 0.08 and < 0.14;
        return kind < 0.08 ? ", " : sentenceEnds ? Pick<string>(SentenceEnds) : kind < 0.17 ? Pick<string>(Marks) : " ";
    }

    private byte[] Word()
    {
        if (random.NextDouble() < 0.45)
        {
            return Encoding.ASCII.GetBytes(Pick<string>(Common));
        }

        var length = Math.Min(1 + (int)(-Math.Log(1 - random.NextDouble()) / 0.22), 14);
        return Bytes(length, () => (byte)Letters[random.Next(Letters.Length)]);
    }

    private byte[] Number() => Bytes(Pick<int>(NumberLengths), () => (byte)('0' + random.Next(10)));

    private byte[] Noise() => Bytes(1 + random.Next(12), () => (byte)(anyByte ? random.Next(256) : random.Next(' ', '~' + 1)));

    private static byte[] Bytes(int length, Func<byte> next)
    {
        var bytes = new byte[length];
        for (var i = 0; i < length; i++)
        {
            bytes[i] = next();
        }

        return bytes;
    }

    private static byte Upper(byte letter) => letter is >= (byte)'a' and <= (byte)'z' ? (byte)(letter - 32) : letter;

    private T Pick<T>(ReadOnlySpan<T> choices) => choices[random.Next(choices.Length)];
}
