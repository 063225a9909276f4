using System.Runtime.InteropServices;

namespace LongContext.Comparison;

/// <summary>Text files as tokens of byte pairs that are learned from them, kept in a folder: the tokens of each file, and those of one file that is held out.</summary>
public sealed class TextCorpus : Corpus
{
    private const string Merges = "merges.bin", HeldOutTokens = "held-out.tokens";

    /// <summary>Bytes of one file, and tokens of all files: what fits into the program's heap.</summary>
    private const long LargestFile = 16 << 20, MostTokens = 32 << 20;

    private readonly IReadOnlyList<ushort[]> files;
    private readonly ushort[] heldOut;

    private TextCorpus(BytePairs encoding, IReadOnlyList<ushort[]> files, ushort[] heldOut, int length)
    {
        var read = Math.Min(heldOut.Length - 1, length) / Scores.StepTokens * Scores.StepTokens; // the first token is read and not predicted
        if (read < Scores.StepTokens)
        {
            throw new InputException($"The held-out text has {heldOut.Length} tokens; it must have more than {Scores.StepTokens}.");
        }

        (Encoding, this.files, this.heldOut) = (encoding, files, heldOut[..(read + 1)]);
        BytesPerToken = (double)encoding.Decode(this.heldOut.Skip(1)).Length / read;
    }

    public BytePairs Encoding { get; }

    public override int Vocabulary => Encoding.Vocabulary;

    public override double? BytesPerToken { get; }

    /// <summary>Reads the files, learns the encoding, and writes their tokens into the folder.</summary>
    /// <param name="texts">Files to train on.</param>
    /// <param name="heldOut">The file that is held out.</param>
    /// <param name="vocabulary">How many tokens there shall be.</param>
    /// <param name="folder">Where the tokens are kept.</param>
    /// <exception cref="InputException">A file is too large.</exception>
    public static void Prepare(IReadOnlyList<string> texts, string heldOut, int vocabulary, string folder)
    {
        if (texts.Append(heldOut).FirstOrDefault(text => new FileInfo(text).Length > LargestFile) is { } large)
        {
            throw new InputException($"'{large}' has more than {LargestFile >> 20} MB: cut it into several files.");
        }

        var encoding = BytePairs.Train(texts.Select(File.ReadAllBytes), vocabulary);
        for (var i = 0; i < texts.Count; i++)
        {
            Write($"train-{i:0000}.tokens", MemoryMarshal.AsBytes<ushort>(encoding.Encode(File.ReadAllBytes(texts[i]))).ToArray());
        }

        Write(HeldOutTokens, MemoryMarshal.AsBytes<ushort>(encoding.Encode(File.ReadAllBytes(heldOut))).ToArray());
        Write(Merges, encoding.ToBytes()); // last: with it the folder is whole

        void Write(string name, byte[] content) => AtomicFile.Write(Path.Combine(folder, name), file => file.Write(content));
    }

    /// <summary>Whether <see cref="Prepare"/> has written all of its files into the folder.</summary>
    public static bool IsPrepared(string folder) => File.Exists(Path.Combine(folder, Merges));

    /// <param name="folder">What <see cref="Prepare"/> wrote.</param>
    /// <param name="length">How many tokens of the held-out file are read at most: whole steps of <see cref="Scores.StepTokens"/>.</param>
    /// <exception cref="InputException">The held-out file is shorter than a step, or the texts are too long.</exception>
    public static TextCorpus Load(string folder, int length)
    {
        string[] files = [.. Directory.GetFiles(folder, "train-*.tokens").Order(StringComparer.Ordinal)];
        var tokens = files.Sum(file => new FileInfo(file).Length) / sizeof(ushort);
        return tokens <= MostTokens
            ? new(BytePairs.FromBytes(File.ReadAllBytes(Path.Combine(folder, Merges))), [.. files.Select(Read)], Read(Path.Combine(folder, HeldOutTokens)), length)
            : throw new InputException($"The texts have {tokens} tokens; at most {MostTokens} can be read: give fewer files.");
    }

    /// <summary>The same corpus with another text held out.</summary>
    public TextCorpus WithHeldOut(byte[] text, int length) => new(Encoding, files, Encoding.Encode(text), length);

    /// <summary>A random piece of one file; longer files are drawn more often.</summary>
    public override Document Training(int seed, long number, int tokens)
    {
        var places = files.Select(file => Math.Max(0, file.Length - tokens + 1L)).ToArray();
        var all = places.Sum();
        if (all == 0)
        {
            throw new InputException($"No text has {tokens} tokens, which one document of the training has: give longer ones, or train on shorter documents.");
        }

        var place = RandomOf(seed, number).NextInt64(all);
        var file = 0;
        for (; place >= places[file]; file++)
        {
            place -= places[file];
        }

        return new(files[file].AsMemory((int)place, tokens));
    }

    public override IReadOnlyList<Document> HeldOut() => [new(heldOut)];

    private static ushort[] Read(string path) => MemoryMarshal.Cast<byte, ushort>(File.ReadAllBytes(path)).ToArray();
}
