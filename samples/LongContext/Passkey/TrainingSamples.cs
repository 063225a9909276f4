namespace LongContext.Passkey;

/// <summary>A batch of prompts with their answers: tokens and write weights, row after row, all rows equally long.</summary>
public sealed record TrainingBatch(long[] Tokens, float[] WriteWeights, int Rows, int Length);

/// <summary>What the samples of one stage of the training look like.</summary>
public sealed record SampleSettings
{
    /// <summary>The longest input, in segments.</summary>
    public required int Segments { get; init; }

    /// <summary>The share of samples whose filler is the paper's; the others hide the key in text of all kinds.</summary>
    public double PeriodicShare { get; init; } = 1;

    /// <summary>
    /// Whether keys and questions cross segment boundaries at every offset, and more often than by chance. Without
    /// it keys are anywhere and inputs end at a segment boundary.
    /// </summary>
    public bool AcrossBoundaries { get; init; }

    /// <summary>The share of samples in which the write weights of the filler are multiplied.</summary>
    public double WeightedShare { get; init; }

    /// <summary>The largest factor.</summary>
    public double LargestWeight { get; init; } = 2000;
}

/// <summary>
/// Draws training prompts. Two properties decide how the trained model performs far beyond their length. First, filler that is
/// written w times as strongly (w log-uniform) stands for w times as much of it: with at most 5K tokens the model meets the
/// memory as it is after millions. Second, keys across a segment boundary, keys near the question and questions across a
/// boundary are drawn far more often than by chance, because that is where a model of segments fails.
/// </summary>
public sealed class TrainingSamples(int segmentLength, int batchTokens, IReadOnlyList<Haystack> books)
{
    /// <summary>The most segments of an ordinary batch: weighted filler teaches long contexts at a lower cost than long inputs do.</summary>
    private const int UsualSegments = 6;

    private const double NearQuestion = 0.1, AcrossBoundary = 0.4, NearStart = 0.1;

    /// <summary>From this length on a prompt begins with the instruction.</summary>
    private const int ShortestWithInstruction = 300;

    /// <summary>The batch of a step: the same for the same random source, whatever was drawn before.</summary>
    public TrainingBatch Draw(Random random, SampleSettings settings, bool longest)
    {
        var segments = longest ? settings.Segments
            : random.Next(Math.Min(2, settings.Segments), Math.Min(settings.Segments, UsualSegments) + 1);
        var length = Length(random, settings, segments);
        var rows = Math.Max(2, batchTokens / (segments * segmentLength));
        var (tokens, weights) = (new long[rows * length], new float[rows * length]);
        for (var row = 0; row < rows; row++)
        {
            DrawRow(random, settings, tokens.AsSpan(row * length, length), weights.AsSpan(row * length, length));
        }

        return new TrainingBatch(tokens, weights, rows, length);
    }

    private int Length(Random random, SampleSettings settings, int segments)
    {
        var length = segments * segmentLength;
        if (!settings.AcrossBoundaries)
        {
            return length;
        }

        var kind = random.NextDouble();
        if (segments > 2 && kind < 0.1)
        {
            return length - segmentLength + random.Next(PasskeyPrompt.KeyDigits + 7); // a boundary in the answer, or shortly before it
        }

        return kind < 0.7 ? length : length - random.Next(segmentLength);
    }

    private void DrawRow(Random random, SampleSettings settings, Span<long> tokens, Span<float> weights)
    {
        var promptLength = tokens.Length - PasskeyPrompt.KeyDigits;
        var withInstruction = tokens.Length >= ShortestWithInstruction;
        var filler = (int)PasskeyPrompt.FillerTokens(promptLength, withInstruction);
        var instruction = withInstruction ? PasskeyPrompt.Instruction.Length : 0;
        var key = IsAnswerCut(tokens.Length) ? KeyOfDifferentDigits(random) : Key(random);
        var (haystack, start) = Filler(random, settings, filler);
        var prompt = new PasskeyPrompt(key, promptLength, Before(random, settings, instruction, filler), haystack, start, withInstruction);
        prompt.CopyTo(tokens[..promptLength], 0);
        for (var digit = 0; digit < key.Length; digit++)
        {
            tokens[promptLength + digit] = key[digit];
        }

        weights.Fill(1);
        if (random.NextDouble() < settings.WeightedShare)
        {
            weights.Fill((float)Math.Pow(settings.LargestWeight, random.NextDouble()));
            var (first, end) = prompt.NeedleTokens;
            var from = (int)first / segmentLength * segmentLength;
            var to = Math.Min(weights.Length, (int)((end - 1) / segmentLength + 1) * segmentLength);
            weights[from..to].Fill(1);
        }
    }

    /// <summary>
    /// Half of the keys have at most three different digits: with uniformly drawn keys a model that looks for "what follows a 4"
    /// would be right too often; with these it must learn to look for "the third digit".
    /// </summary>
    private static string Key(Random random)
    {
        if (random.Next(2) == 0)
        {
            return random.Next(100_000).ToString("D5");
        }

        var digits = random.Next(1000).ToString("D3");
        return string.Concat(Enumerable.Range(0, PasskeyPrompt.KeyDigits).Select(_ => digits[random.Next(digits.Length)]));
    }

    /// <summary>
    /// Whether a segment begins at a digit of the answer that is also read: the digit then has no context, and what follows it in a
    /// key that has it twice cannot be known. The model would learn to guess.
    /// </summary>
    private bool IsAnswerCut(int length) => length % segmentLength is >= 2 and <= PasskeyPrompt.KeyDigits;

    private static string KeyOfDifferentDigits(Random random)
    {
        var digits = "0123456789".ToCharArray();
        random.Shuffle(digits);
        return new string(digits, 0, PasskeyPrompt.KeyDigits);
    }

    /// <summary>How much of the filler comes before the key.</summary>
    private int Before(Random random, SampleSettings settings, int instruction, int filler)
    {
        if (!settings.AcrossBoundaries)
        {
            return random.Next(filler + 1);
        }

        var needle = PasskeyPrompt.NeedleLength;
        var kind = random.NextDouble();
        if (kind < NearQuestion)
        {
            return filler - random.Next(Math.Min(filler, 2 * segmentLength) + 1);
        }

        if (kind < NearQuestion + AcrossBoundary)
        {
            var boundary = segmentLength * (1 + random.Next(Math.Max(1, (instruction + filler + needle) / segmentLength)));
            var cut = random.Next(2) == 0 ? random.Next(PasskeyPrompt.FirstKey, PasskeyPrompt.SecondKeyEnd) : random.Next(needle + 1);
            return Math.Clamp(boundary - instruction - cut, 0, filler);
        }
        return random.Next((kind < NearQuestion + AcrossBoundary + NearStart ? Math.Min(filler, segmentLength) : filler) + 1);
    }

    private (Haystack Haystack, long Start) Filler(Random random, SampleSettings settings, int length)
    {
        if (random.NextDouble() < settings.PeriodicShare)
        {
            return (Haystack.Periodic, random.Next(2) * random.NextInt64(Haystack.Periodic.Length));
        }

        if (books.Count > 0 && random.Next(2) == 0)
        {
            var book = books[random.Next(books.Count)];
            return (book, random.NextInt64(book.Length));
        }
        return (new Haystack("synthetic", new SyntheticProse(random).Write(Math.Max(1, length))), 0);
    }
}
