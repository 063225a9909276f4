using Tokenizers.DotNet;

namespace LongContext.Models;

/// <summary>Text to tokens and back.</summary>
public interface ITextTokenizer : IDisposable
{
    /// <summary>The tokens of a text, with the special ones that the model expects at its beginning.</summary>
    long[] Encode(string text);

    string Decode(IReadOnlyList<long> tokens);
}

/// <summary><c>tokenizer.json</c>, read by Hugging Face's own tokenizers.</summary>
internal sealed class HuggingFaceTokenizer : ITextTokenizer
{
    public const string FileName = "tokenizer.json";

    private readonly Tokenizer tokenizer;
    private readonly long vocabulary;

    public HuggingFaceTokenizer(string folder, long vocabulary)
    {
        this.vocabulary = vocabulary;
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            throw new InputException($"'{folder}' has no {FileName}.");
        }

        try
        {
            tokenizer = new Tokenizer(path);
        }
        catch (TokenizerException error)
        {
            throw new InputException($"{FileName} cannot be read: {error.Message}");
        }
    }

    public long[] Encode(string text)
    {
        long[] tokens = [.. tokenizer.Encode(text).Select(token => (long)token)];
        return tokens.Length == 0 || tokens.Max() < vocabulary
            ? tokens
            : throw new InputException($"{FileName} gives the token {tokens.Max()}, but the model's vocabulary has {vocabulary}.");
    }

    public string Decode(IReadOnlyList<long> tokens) => tokenizer.Decode([.. tokens.Select(token => (uint)token)]);

    public void Dispose() => tokenizer.Dispose();
}
