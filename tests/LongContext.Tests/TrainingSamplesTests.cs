using LongContext.Passkey;

namespace LongContext.Tests;

public class TrainingSamplesTests
{
    private const int Segment = 128;

    private static readonly SampleSettings Everything = new() { Segments = 40, PeriodicShare = 0.3, AcrossBoundaries = true, WeightedShare = 0.7 };

    public static TheoryData<int> AllStages => [.. Enumerable.Range(0, Curriculum.Stages.Count)];

    [Theory]
    [MemberData(nameof(AllStages))]
    public void Rows_hold_a_prompt_and_its_answer_and_fit_the_stage(int stage)
    {
        var settings = Curriculum.Stages[stage].Samples;
        for (var seed = 0; seed < 20; seed++)
        {
            var batch = new TrainingSamples(Segment, 4096, []).Draw(new Random(seed), settings, seed % 2 == 0);

            Assert.InRange(batch.Length, 1, settings.Segments * Segment);
            foreach (var text in Rows(batch))
            {
                var key = text[^PasskeyPrompt.KeyDigits..];
                Assert.All(key, digit => Assert.InRange(digit, '0', '9'));
                Assert.EndsWith(PasskeyPrompt.Question + key, text);
                Assert.Contains($"The pass key is {key}. Remember it. {key} is the pass key. ", text);
            }
        }
    }

    [Fact]
    public void A_key_whose_answer_is_cut_by_a_boundary_has_no_digit_twice()
    {
        var cut = 0;
        for (var seed = 0; seed < 300; seed++)
        {
            var batch = new TrainingSamples(Segment, 4096, []).Draw(new Random(seed), Everything, longest: false);
            if (batch.Length % Segment is < 2 or > PasskeyPrompt.KeyDigits)
            {
                continue;
            }

            cut++;
            Assert.All(Rows(batch), text => Assert.Equal(PasskeyPrompt.KeyDigits, text[^PasskeyPrompt.KeyDigits..].Distinct().Count()));
        }
        Assert.InRange(cut, 5, 60);
    }

    [Fact]
    public void Only_segments_without_the_key_are_weighted_and_all_of_them_equally()
    {
        var weighted = 0;
        for (var seed = 0; seed < 50; seed++)
        {
            var batch = new TrainingSamples(Segment, 4096, []).Draw(new Random(seed), Everything, longest: true);
            foreach (var (text, row) in Rows(batch).Select((text, row) => (text, row)))
            {
                var weights = batch.WriteWeights.AsSpan(row * batch.Length, batch.Length);
                var needle = text.IndexOf($"The pass key is {text[^5..]}. Remember", StringComparison.Ordinal);
                var (first, last) = (needle / Segment, (needle + PasskeyPrompt.NeedleLength - 1) / Segment);
                var outside = new HashSet<float>();
                for (var token = 0; token < weights.Length; token++)
                {
                    if (token / Segment >= first && token / Segment <= last)
                    {
                        Assert.Equal(1, weights[token]);
                    }
                    else
                    {
                        outside.Add(weights[token]);
                    }
                }
                var weight = Assert.Single(outside);
                Assert.InRange(weight, 1, (float)Everything.LargestWeight);
                weighted += weight > 1 ? 1 : 0;
            }
        }
        Assert.InRange(weighted, 50, 90); // 70 of 100
    }

    [Fact]
    public void The_same_seed_draws_the_same_batch_and_another_seed_another_batch()
    {
        var samples = new TrainingSamples(Segment, 4096, []);

        var (first, again, other) = (samples.Draw(new Random(1), Everything, true), samples.Draw(new Random(1), Everything, true), samples.Draw(new Random(2), Everything, true));

        Assert.Equal(first.Tokens, again.Tokens);
        Assert.Equal(first.WriteWeights, again.WriteWeights);
        Assert.NotEqual(first.Tokens, other.Tokens);
    }

    [Fact]
    public void Half_of_the_keys_repeat_their_digits()
    {
        var keys = Enumerable.Range(0, 200).SelectMany(seed => Rows(new TrainingSamples(Segment, 4096, []).Draw(new Random(seed), Everything, true)))
            .Select(text => text[^PasskeyPrompt.KeyDigits..].Distinct().Count()).ToList();

        Assert.InRange(keys.Count(digits => digits <= 3), 200, 300); // half, and a fifth of the others
        Assert.Contains(PasskeyPrompt.KeyDigits, keys);
    }

    [Fact]
    public void Half_of_the_samples_use_the_given_books()
    {
        var samples = new TrainingSamples(Segment, 4096, [new Haystack("book", "zyzzyva "u8)]);
        var settings = Everything with { PeriodicShare = 0 };

        var rows = Enumerable.Range(0, 20).SelectMany(seed => Rows(samples.Draw(new Random(seed), settings, true))).ToList();

        Assert.InRange(rows.Count(text => text.Contains("zyzzyva zyzzyva", StringComparison.Ordinal)), 5, 35); // half of 40
    }

    [Fact]
    public void Made_up_text_has_every_byte_in_it()
    {
        var seen = new HashSet<byte>();
        for (var seed = 0; seed < 100; seed++)
        {
            seen.UnionWith(new SyntheticProse(new Random(seed)).Write(5000));
        }

        Assert.Equal(256, seen.Count);
    }

    private static List<string> Rows(TrainingBatch batch) => [.. Enumerable.Range(0, batch.Rows)
        .Select(row => string.Concat(batch.Tokens.Skip(row * batch.Length).Take(batch.Length).Select(token => (char)token)))];
}
