using System.Text;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>The tokenizer of llama2.c merges a text in parts as it would merge it whole.</summary>
public sealed class Llama2cTokenizerTests : IDisposable
{
    private const int Begin = 1, FirstPiece = 259, Pieces = 41;

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void A_text_gives_the_tokens_of_merging_the_best_pair_of_the_whole_text_again_and_again(int seed)
    {
        using var scope = NewDisposeScope();
        var random = new Random(seed);
        string[] letters = [" ", "a", "b", "c", ".", "é"];
        var pieces = letters.ToList();
        while (pieces.Count < Pieces)
        {
            var piece = pieces[random.Next(pieces.Count)] + pieces[random.Next(pieces.Count)];
            if (piece.Length <= 6 && !pieces.Contains(piece))
            {
                pieces.Add(piece);
            }
        }

        var scores = pieces.Select(_ => (float)random.Next(20)).ToArray();
        Write(pieces, scores);
        using var tokenizer = PretrainedModel.LoadTokenizer(folder.Path);
        var text = string.Concat(Enumerable.Range(0, 400).Select(_ => letters[random.Next(letters.Length)]));

        var tokens = tokenizer.Encode(text);

        Assert.Equal([Begin, .. Merged(" " + text, pieces, scores).Select(piece => (long)FirstPiece + piece)], tokens);
        Assert.Equal(text, tokenizer.Decode(tokens));
    }

    private static List<int> Merged(string text, List<string> pieces, float[] scores)
    {
        var tokens = text.Select(letter => pieces.IndexOf(letter.ToString())).ToList();
        while (Enumerable.Range(0, tokens.Count - 1).Select(i => (Place: i, Piece: pieces.IndexOf(pieces[tokens[i]] + pieces[tokens[i + 1]])))
            .Where(merge => merge.Piece >= 0).OrderByDescending(merge => scores[merge.Piece]).ThenBy(merge => merge.Place).ToArray() is [var best, ..])
        {
            tokens[best.Place] = best.Piece;
            tokens.RemoveAt(best.Place + 1);
        }

        return tokens;
    }

    private void Write(List<string> pieces, float[] scores)
    {
        File.WriteAllText(folder.File("config.json"), FamilyCase.Of("LLaMA 2").Config.Replace("\"vocab_size\": 37", $"\"vocab_size\": {FirstPiece + Pieces}"));
        using var file = new BinaryWriter(File.Create(folder.File("tokenizer.bin")));
        file.Write(6); // the length of the longest piece, which nobody reads
        IEnumerable<(string Piece, float Score)> tokens = [("<unk>", 0), ("<s>", 0), ("</s>", 0), .. Enumerable.Range(0, 256).Select(one => ($"<0x{one:X2}>", 0f)), .. pieces.Zip(scores)];
        foreach (var (piece, score) in tokens)
        {
            var bytes = Encoding.UTF8.GetBytes(piece);
            file.Write(score);
            file.Write(bytes.Length);
            file.Write(bytes);
        }
    }
}
