namespace LongContext.Adapt;

/// <summary>Rows of tokens, which of them answer a question, and how strongly each is written to the memory.</summary>
public sealed class RecallBatch(int length, IReadOnlyList<RecallText> rows)
{
    public int Rows => rows.Count;

    public int Length => length;

    /// <summary><paramref name="count"/> tokens of each row from <paramref name="from"/> on, row after row.</summary>
    public long[] Tokens(int from, int count) => Stretch(from, count, (row, t) => row.Token(t));

    /// <inheritdoc cref="Tokens"/>
    public bool[] Answers(int from, int count) => Stretch(from, count, (row, t) => row.IsAnswer(t));

    /// <inheritdoc cref="Tokens"/>
    public float[] WriteWeights(int from, int count) => Stretch(from, count, (row, t) => row.WriteWeight(t));

    private T[] Stretch<T>(int from, int count, Func<RecallText, int, T> at)
    {
        var stretch = new T[rows.Count * count];
        for (var r = 0; r < rows.Count; r++)
        {
            for (var t = 0; t < count; t++)
            {
                stretch[r * count + t] = at(rows[r], from + t);
            }
        }
        return stretch;
    }
}

/// <summary>
/// A row: pair i is the i-th of its keys with the i-th of its values. Only the few tokens that are not filler are stored, so that
/// a row of a million tokens takes almost no memory.
/// </summary>
public sealed class RecallText(int phase, int[] keys, int[] values, Range weighted, float weight)
{
    private readonly Dictionary<int, long> placed = [];
    private readonly HashSet<int> answers = [];

    public long Token(int at) => placed.TryGetValue(at, out var token) ? token : (phase + at) % RecallTask.Filler;

    public bool IsAnswer(int at) => answers.Contains(at);

    public float WriteWeight(int at) => at >= weighted.Start.Value && at < weighted.End.Value ? weight : 1;

    public void Write(int at, int pair)
    {
        placed[at] = RecallTask.FirstKey + keys[pair];
        placed[at + 1] = RecallTask.FirstValue + values[pair];
    }

    public void Question(int at, int pair)
    {
        placed[at] = RecallTask.Ask;
        Write(at + 1, pair);
        answers.Add(at + 2);
    }
}
