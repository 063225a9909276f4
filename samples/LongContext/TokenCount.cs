using System.Globalization;

namespace LongContext;

/// <summary>Numbers of tokens as people write them: 512, 32K, 1M, where K is 1024 and M is 1024 K.</summary>
public static class TokenCount
{
    private const long K = 1024, M = K * K;

    public static string Format(long tokens) => tokens switch
    {
        >= M when tokens % M == 0 => $"{tokens / M}M",
        >= K when tokens % K == 0 => $"{tokens / K}K",
        _ => tokens.ToString(CultureInfo.InvariantCulture),
    };

    public static long Parse(string text)
    {
        var (digits, unit) = text.Length > 0 && char.ToUpperInvariant(text[^1]) is 'K' or 'M'
            ? (text[..^1], char.ToUpperInvariant(text[^1]) == 'K' ? K : M)
            : (text, 1);
        return long.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number is > 0 and < 1L << 40
            ? number * unit
            : throw new InputException($"'{text}' is not a number of tokens: write it like 4096, 32K or 1M.");
    }
}
