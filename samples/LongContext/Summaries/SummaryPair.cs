using System.Text.Json;
using System.Text.Json.Serialization;

namespace LongContext.Summaries;

/// <summary>A text and its summary.</summary>
public sealed record SummaryPair([property: JsonPropertyName("text"), JsonRequired] string Text, [property: JsonPropertyName("summary"), JsonRequired] string Summary)
{
    /// <summary>The lines of the summary; of a <see cref="YearBook"/> each is a fact.</summary>
    public IReadOnlyList<string> Lines => LinesOf(Summary);

    public static IReadOnlyList<string> LinesOf(string summary) => summary.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>The first part of the text, up to the last sentence or line that ends in it; if none does, all of the part.</summary>
    /// <param name="share">How much of the text, above 0 and up to 1.</param>
    public string FirstPart(double share)
    {
        var length = (int)(share * Text.Length);
        if (length >= Text.Length)
        {
            return Text;
        }

        for (var end = length; end > 0; end--)
        {
            if (Text[end - 1] == '\n' || (Text[end - 1] is '.' or '!' or '?' && char.IsWhiteSpace(Text[end])))
            {
                return Text[..end];
            }
        }

        return Text[..length];
    }

    /// <summary>Reads a file of JSON lines, one pair at a time: a file of books may be larger than the memory.</summary>
    public static IEnumerable<SummaryPair> Read(string path)
    {
        if (!File.Exists(path))
        {
            throw new InputException($"There is no file '{path}'.");
        }

        var (number, isEmpty) = (0, true);
        foreach (var line in File.ReadLines(path))
        {
            number++;
            if (!string.IsNullOrWhiteSpace(line))
            {
                yield return Parse(line) is { Text: { Length: > 0 }, Summary: { Length: > 0 } } pair ? pair : throw Wrong();
                isEmpty = false;
            }
        }

        if (isEmpty)
        {
            throw new InputException($"'{path}' holds no pairs: write one a line, as {{\"text\": \"...\", \"summary\": \"...\"}}.");
        }

        SummaryPair? Parse(string line)
        {
            try
            {
                return JsonSerializer.Deserialize<SummaryPair>(line);
            }
            catch (JsonException)
            {
                throw Wrong();
            }
        }

        InputException Wrong() => new($"'{path}', line {number}: this is no pair. Write it as {{\"text\": \"...\", \"summary\": \"...\"}}, neither of them empty.");
    }
}
