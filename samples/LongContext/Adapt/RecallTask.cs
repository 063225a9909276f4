namespace LongContext.Adapt;

/// <summary>Rows of tokens, which of them answer a question, and how strongly each is written to the memory.</summary>
public sealed record RecallBatch(long[] Tokens, bool[] Answers, float[] WriteWeights, int Rows, int Length);

/// <summary>
/// Associative recall. Pairs of a key and a value stand somewhere in filler that repeats itself; later "? key" asks for the
/// value, which is the next token. Every row pairs keys and values anew, so that nothing can be learnt by heart.
/// </summary>
public sealed class RecallTask(int seed)
{
    public const int Vocabulary = Ask + 1, Values = 16, Pairs = 4;
    private const int Filler = 23, Keys = 16, FirstKey = Filler, FirstValue = FirstKey + Keys, Ask = FirstValue + Values;
    private const int Slot = 4, Questions = 8;

    private readonly Random random = new(seed);

    /// <summary>Rows in which pairs and questions stand anywhere.</summary>
    public RecallBatch Anywhere(int rows, int length, double largestWeight = 1) => Draw(rows, length, length, largestWeight, row =>
    {
        var slots = Distinct(length / Slot, Pairs + Questions);
        var written = 0;
        foreach (var slot in slots)
        {
            if (written == 0 || (written < Pairs && random.Next(2) == 0))
                row.Write(slot * Slot, written++);
            else
                row.Question(slot * Slot, random.Next(written));
        }
    });

    /// <summary>Rows whose pairs stand in the first <paramref name="segment"/> tokens and whose questions in the last.</summary>
    public RecallBatch Apart(int rows, int length, int segment, double largestWeight = 1) => Draw(rows, length, segment, largestWeight, row =>
    {
        var slots = segment / Slot;
        if (length > segment)
        {
            foreach (var (slot, pair) in Distinct(slots, Pairs).Select((slot, pair) => (slot, pair)))
                row.Write(slot * Slot, pair);
            foreach (var (slot, pair) in Distinct(slots, Pairs).Select((slot, pair) => (slot, pair)))
                row.Question(length - segment + slot * Slot, pair);
            return;
        }
        foreach (var (slot, place) in Distinct(slots, 2 * Pairs).Select((slot, place) => (slot, place)))
        {
            if (place < Pairs)
                row.Write(slot * Slot, place);
            else
                row.Question(slot * Slot, place - Pairs);
        }
    });

    private RecallBatch Draw(int rows, int length, int segment, double largestWeight, Action<Row> write)
    {
        var batch = new RecallBatch(new long[rows * length], new bool[rows * length], new float[rows * length], rows, length);
        for (var r = 0; r < rows; r++)
        {
            var phase = random.Next(Filler);
            for (var t = 0; t < length; t++)
                batch.Tokens[r * length + t] = (phase + t) % Filler;
            var weights = batch.WriteWeights.AsSpan(r * length, length);
            weights.Fill(1);
            if (length > 2 * segment)
                weights[segment..^segment].Fill((float)Math.Pow(largestWeight, random.NextDouble()));
            write(new Row(batch, r * length, Shuffled(Keys), Shuffled(Values)));
        }
        return batch;
    }

    private int[] Distinct(int below, int count) => [.. Shuffled(below).Take(count).Order()];

    private int[] Shuffled(int count)
    {
        var numbers = Enumerable.Range(0, count).ToArray();
        random.Shuffle(numbers);
        return numbers;
    }

    /// <summary>A row of a batch: pair i is the i-th of its keys with the i-th of its values.</summary>
    private sealed record Row(RecallBatch Batch, int Start, int[] Keys, int[] Values)
    {
        public void Write(int at, int pair)
        {
            Batch.Tokens[Start + at] = FirstKey + Keys[pair];
            Batch.Tokens[Start + at + 1] = FirstValue + Values[pair];
        }

        public void Question(int at, int pair)
        {
            Batch.Tokens[Start + at] = Ask;
            Write(at + 1, pair);
            Batch.Answers[Start + at + 2] = true;
        }
    }
}
