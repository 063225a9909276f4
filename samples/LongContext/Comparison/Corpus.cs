namespace LongContext.Comparison;

/// <summary>Documents to train on, and held-out ones.</summary>
public abstract class Corpus
{
    public abstract int Vocabulary { get; }

    /// <summary>Bytes of text for each held-out token that is predicted; null if the tokens stand for no bytes.</summary>
    public virtual double? BytesPerToken => null;

    /// <summary>A document to train on. The same seed and number give the same one.</summary>
    /// <param name="seed">The seed of the training.</param>
    /// <param name="number">Which of its documents, from 0 on.</param>
    /// <param name="tokens">How many tokens it has.</param>
    public abstract Document Training(int seed, long number, int tokens);

    /// <summary>Documents that are in no training, of one length.</summary>
    public abstract IReadOnlyList<Document> HeldOut();

    /// <summary>Random numbers for one document of a training.</summary>
    public static Random RandomOf(int seed, long number)
    {
        // The mixing of SplitMix64: System.Random gives similar numbers for seeds that are close.
        var mixed = unchecked((ulong)seed * 0x9E3779B97F4A7C15 + (ulong)number * 0xD1342543DE82EF95);
        mixed = unchecked((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9);
        mixed = unchecked((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB);
        return new Random((int)((mixed ^ (mixed >> 31)) & int.MaxValue));
    }
}

/// <summary>Made-up chronicles, in which a name that was told before can be recalled.</summary>
/// <param name="people">How many people there are, from 2 to 32.</param>
/// <param name="documents">How many are held out.</param>
/// <param name="length">How many tokens each of these has.</param>
/// <param name="forChoosing">Whether they are those that settings are chosen by, so that the reported ones stay unseen.</param>
public sealed class ChronicleCorpus(int people, int documents, int length, bool forChoosing) : Corpus
{
    /// <summary>Chronicles with seeds from here on are held out.</summary>
    private const int FirstReported = 1_000_000_000, FirstForChoosing = FirstReported + 1000;

    public override int Vocabulary => Chronicle.Vocabulary;

    public override Document Training(int seed, long number, int tokens) => new Chronicle(RandomOf(seed, number).Next(FirstReported), tokens, people).ToDocument();

    public override IReadOnlyList<Document> HeldOut() =>
        [.. Enumerable.Range(forChoosing ? FirstForChoosing : FirstReported, documents).Select(seed => new Chronicle(seed, length + 1, people).ToDocument())];
}
