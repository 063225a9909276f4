namespace LongContext.Passkey;

/// <summary>The irrelevant text that a key is hidden in: bytes, repeated without end.</summary>
public sealed class Haystack
{
    /// <summary>The limit of all files together: managed memory is limited, and a text is in it twice while it is read.</summary>
    private const long MostBytes = 32 << 20;

    private readonly byte[] text;

    public Haystack(string name, ReadOnlySpan<byte> text)
    {
        if (text.IsEmpty)
        {
            throw new InputException($"The haystack {name} is empty: it needs at least one byte of text.");
        }

        Name = name;
        this.text = text.ToArray();
    }

    /// <summary>The paper's filler.</summary>
    public static Haystack Periodic { get; } = new("periodic",
        "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "u8);

    public string Name { get; }

    /// <summary>How many bytes there are before the text repeats itself.</summary>
    public long Length => text.Length;

    public static IReadOnlyList<Haystack> FromFiles(IReadOnlyList<string> paths)
    {
        if (paths.FirstOrDefault(path => !File.Exists(path)) is { } missing)
        {
            throw new InputException($"There is no haystack file '{missing}'.");
        }

        if (paths.Sum(path => new FileInfo(path).Length) > MostBytes)
        {
            throw new InputException($"{(paths.Count == 1 ? $"The haystack file '{paths[0]}' is" : "The haystack files together are")} larger than {MostBytes >> 20} MB: give a part.");
        }

        return [.. paths.Select(path => new Haystack(Path.GetFileName(path), File.ReadAllBytes(path)))];
    }

    /// <summary>Copies the bytes from <paramref name="offset"/> on, as tokens.</summary>
    public void CopyTo(Span<long> tokens, long offset)
    {
        var at = (int)(offset % text.Length);
        for (var i = 0; i < tokens.Length; i++)
        {
            tokens[i] = text[at];
            if (++at == text.Length)
            {
                at = 0;
            }
        }
    }

    /// <summary>The nearest offset at or before <paramref name="offset"/>, at most 64 bytes back, at which a word begins; the offset itself if there is none.</summary>
    public long WordStart(long offset)
    {
        for (var start = offset; offset - start <= 64; start--)
        {
            if (start == 0 || char.IsWhiteSpace((char)text[(start - 1) % text.Length]))
            {
                return start;
            }
        }
        return offset;
    }
}
