using LongContext.Models;

namespace LongContext.Generate;

/// <summary>
/// The text of tokens as they come. A token's text depends on its neighbours and may be a part of a character, so that tokens are decoded together with those before, and
/// text is held back while it ends in an incomplete character.
/// </summary>
/// <param name="tokenizer">The tokenizer.</param>
/// <param name="before">Tokens before the first, for what is between them.</param>
public sealed class TextOfTokens(ITextTokenizer tokenizer, IEnumerable<long> before)
{
    private readonly List<long> tokens = [.. before];
    private int written = before.Count();

    /// <summary>The text that a token adds, empty if its character is not complete.</summary>
    public string Add(long token)
    {
        tokens.Add(token);
        var (old, text) = (tokenizer.Decode(tokens[..written]), tokenizer.Decode(tokens));
        if (text.EndsWith('\uFFFD') || text.Length <= old.Length)
        {
            return "";
        }

        tokens.RemoveRange(0, written);
        written = tokens.Count;
        return text[old.Length..];
    }
}
