namespace LongContext.Adapt;

/// <summary>
/// Associative recall. Pairs of a key and a value stand somewhere in repetitive filler; later "? key" asks for the
/// value, which is the next token. Every row pairs keys and values anew, so that the weights cannot memorise them.
/// </summary>
public sealed class RecallTask(int seed)
{
    public const int Vocabulary = Ask + 1, Values = 16, Pairs = 4;
    internal const int Filler = 23, Keys = 16, FirstKey = Filler, FirstValue = FirstKey + Keys, Ask = FirstValue + Values;
    private const int Slot = 4, Questions = 8;

    private readonly Random random = new(seed);

    /// <summary>Rows in which pairs and questions stand anywhere.</summary>
    public RecallBatch Anywhere(int rows, int length) => new(length, Draw(rows, () =>
    {
        var row = NewRow();
        var written = 0;
        foreach (var slot in Distinct(length / Slot, Pairs + Questions))
        {
            if (written == 0 || (written < Pairs && random.Next(2) == 0))
            {
                row.Write(slot * Slot, written++);
            }
            else
            {
                row.Question(slot * Slot, random.Next(written));
            }
        }
        return row;
    }));

    /// <summary>
    /// Rows whose pairs stand in the first <paramref name="segment"/> tokens and whose questions in the last; what is between them
    /// is written up to <paramref name="largestWeight"/> times as strongly.
    /// </summary>
    public RecallBatch Apart(int rows, int length, int segment, double largestWeight = 1) => new(length, Draw(rows, () =>
    {
        var slots = segment / Slot;
        var row = length > 2 * segment ? NewRow(segment..(length - segment), largestWeight) : NewRow();
        if (length > segment)
        {
            foreach (var (slot, pair) in Distinct(slots, Pairs).Select((slot, pair) => (slot, pair)))
            {
                row.Write(slot * Slot, pair);
            }

            foreach (var (slot, pair) in Distinct(slots, Pairs).Select((slot, pair) => (slot, pair)))
            {
                row.Question(length - segment + slot * Slot, pair);
            }

            return row;
        }
        foreach (var (slot, place) in Distinct(slots, 2 * Pairs).Select((slot, place) => (slot, place)))
        {
            if (place < Pairs)
            {
                row.Write(slot * Slot, place);
            }
            else
            {
                row.Question(slot * Slot, place - Pairs);
            }
        }
        return row;
    }));

    private static RecallText[] Draw(int rows, Func<RecallText> draw) => [.. Enumerable.Range(0, rows).Select(_ => draw())];

    private RecallText NewRow(Range? weighted = null, double largestWeight = 1)
    {
        var phase = random.Next(Filler);
        var weight = weighted is null ? 1 : (float)Math.Pow(largestWeight, random.NextDouble());
        return new RecallText(phase, Shuffled(Keys), Shuffled(Values), weighted ?? default, weight);
    }

    private int[] Distinct(int below, int count) => [.. Shuffled(below).Take(count).Order()];

    private int[] Shuffled(int count)
    {
        var numbers = Enumerable.Range(0, count).ToArray();
        random.Shuffle(numbers);
        return numbers;
    }
}
