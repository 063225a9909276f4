using System.Text;

namespace LongContext.Passkey;

/// <summary>
/// The paper's prompt: instruction, filler, the key, filler, question; one byte, one token. It is never held as a whole:
/// any window of it is generated on demand, so a prompt of ten million tokens takes no more memory than a short one.
/// </summary>
public sealed class PasskeyPrompt
{
    public const int KeyDigits = 5;

    public static readonly string Instruction =
        "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. "
        + "I will quiz you about the important information there. ";

    public static readonly string Question = "What is the pass key? The pass key is ";

    /// <summary>The length of the sentences that contain the key.</summary>
    public static readonly int NeedleLength = Needle("00000").Length;

    /// <summary>Where in those sentences the key starts first, and where its second occurrence ends.</summary>
    public static readonly int FirstKey = Needle("00000").IndexOf("00000", StringComparison.Ordinal),
        SecondKeyEnd = Needle("00000").LastIndexOf("00000", StringComparison.Ordinal) + KeyDigits;

    private readonly byte[] instruction, needle, question;
    private readonly Haystack haystack;
    private readonly long haystackStart, fillerBefore, filler;

    /// <param name="key">The five digits to be found.</param>
    /// <param name="length">The number of tokens, without the answer.</param>
    /// <param name="fillerBefore">Filler tokens before the key.</param>
    /// <param name="haystack">Where the filler comes from.</param>
    /// <param name="haystackStart">Where in the haystack the filler begins.</param>
    /// <param name="withInstruction">Whether the prompt begins with the instruction.</param>
    public PasskeyPrompt(string key, long length, long fillerBefore, Haystack haystack, long haystackStart = 0, bool withInstruction = true)
    {
        Key = key;
        Length = length;
        instruction = withInstruction ? Encoding.ASCII.GetBytes(Instruction) : [];
        needle = Encoding.ASCII.GetBytes(Needle(key));
        question = Encoding.ASCII.GetBytes(Question);
        filler = FillerTokens(length, withInstruction);
        if (filler < 0)
        {
            throw new InputException($"A prompt of {length} tokens is too short: the instruction, the key and the question alone take {length - filler}.");
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThan(fillerBefore, filler);
        this.fillerBefore = fillerBefore;
        this.haystack = haystack;
        this.haystackStart = haystackStart;
    }

    public string Key { get; }

    public long Length { get; }

    /// <summary>The first token of the sentences that contain the key, and the token after their last.</summary>
    public (long Start, long End) NeedleTokens => (instruction.Length + fillerBefore, instruction.Length + fillerBefore + needle.Length);

    /// <summary>The number of filler tokens in a prompt of <paramref name="length"/>; negative if it is too short for the rest.</summary>
    public static long FillerTokens(long length, bool withInstruction = true) =>
        length - (withInstruction ? Instruction.Length : 0) - NeedleLength - Question.Length;

    /// <summary>Writes the tokens from <paramref name="offset"/> on.</summary>
    public void CopyTo(Span<long> tokens, long offset)
    {
        if (offset < 0 || offset + tokens.Length > Length)
        {
            throw new ArgumentOutOfRangeException(nameof(offset), offset, $"The window must lie inside the prompt of {Length} tokens.");
        }

        var start = 0L;
        Part(tokens, offset, ref start, instruction.Length, (part, at) => Widen(instruction, part, at));
        Part(tokens, offset, ref start, fillerBefore, (part, at) => haystack.CopyTo(part, haystackStart + at));
        Part(tokens, offset, ref start, needle.Length, (part, at) => Widen(needle, part, at));
        Part(tokens, offset, ref start, filler - fillerBefore, (part, at) => haystack.CopyTo(part, haystackStart + fillerBefore + at));
        Part(tokens, offset, ref start, question.Length, (part, at) => Widen(question, part, at));
    }

    /// <summary>The prompt as a reader sees it: its beginning, the key's sentences and the question, with some of the filler around them.</summary>
    public string Excerpt()
    {
        const int Around = 60;
        var (start, end) = NeedleTokens;
        (long From, long To)[] parts = [(0, instruction.Length + Around), (start - Around, end + Around), (Length - question.Length - Around, Length)];
        var text = new StringBuilder();
        var shown = 0L;
        foreach (var (from, to) in parts)
        {
            var window = new long[Math.Max(0, Math.Min(Length, to) - Math.Max(shown, from))];
            text.Append(from > shown ? " … " : "");
            CopyTo(window, Math.Max(shown, from));
            text.Append(string.Concat(window.Select(letter => letter is >= ' ' and <= '~' ? (char)letter : ' ')));
            shown = Math.Max(shown, Math.Min(Length, to));
        }

        return text.ToString();
    }

    private delegate void Writer(Span<long> part, long at);

    /// <summary>Writes what the window contains of the part [start, start + length), and moves start past the part.</summary>
    private static void Part(Span<long> window, long offset, ref long start, long length, Writer write)
    {
        var from = Math.Max(start, offset);
        var to = Math.Min(start + length, offset + window.Length);
        if (from < to)
        {
            write(window[(int)(from - offset)..(int)(to - offset)], from - start);
        }

        start += length;
    }

    private static void Widen(byte[] bytes, Span<long> tokens, long at)
    {
        for (var i = 0; i < tokens.Length; i++)
        {
            tokens[i] = bytes[at + i];
        }
    }

    private static string Needle(string key) => $"The pass key is {key}. Remember it. {key} is the pass key. ";
}
