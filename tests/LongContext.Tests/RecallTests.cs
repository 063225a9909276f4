using LongContext.Comparison;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Tests;

public sealed class RecallTests : IDisposable
{
    private static readonly DecoderOptions Sizes = new() { Vocabulary = Chronicle.Vocabulary, Width = 16, Layers = 2, Heads = 2, HeadWidth = 8, SegmentLength = 128 };

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void In_a_chronicle_each_first_name_has_one_last_name_and_each_town_one_county()
    {
        Assert.Equal(128, Chronicle.Vocabulary);
        foreach (var people in new[] { 6, 16, 32 })
        {
            var chronicle = new Chronicle(11, 5000, people);
            Assert.Equal(5000, chronicle.Tokens.Count);
            Assert.All(chronicle.Tokens, token => Assert.InRange(token, 0, Chronicle.Vocabulary - 1));
            var facts = Enumerable.Range(1, 4999).Where(i => chronicle.Facts[i] > 0).ToList();
            Assert.Equal(people + Math.Max(4, people / 2), facts.Select(i => chronicle.Facts[i]).Distinct().Count());
            Assert.All(facts.GroupBy(i => chronicle.Facts[i]), fact => Assert.Single(fact.Select(i => (chronicle.Tokens[i - 1], chronicle.Tokens[i])).Distinct()));
            Assert.Equal(facts.Select(i => chronicle.Tokens[i - 1]).Distinct().Count(), facts.Select(i => chronicle.Facts[i]).Distinct().Count());
            Assert.InRange(facts.Count / 5000.0, 0.15, 0.35);

            // Scenes: most names are told again soon, and some only after a long while.
            var distances = facts.Select(i => i - chronicle.LastTold()[i]).ToList();
            Assert.InRange(distances.Count(distance => distance < 60) / (double)facts.Count, 0.5, 0.99);
            if (people == 16)
            {
                Assert.Contains(distances, distance => distance is > 1000 and < 5000);
            }
        }

        Assert.Equal(new Chronicle(3, 500).Tokens, new Chronicle(3, 500).Tokens);
        Assert.NotEqual(new Chronicle(3, 500).Tokens, new Chronicle(4, 500).Tokens);
    }

    [Fact]
    public void LastTold_is_the_last_place_where_a_fact_was_told_before()
    {
        var chronicle = new Chronicle(5, 2000);
        var last = chronicle.LastTold();
        for (var i = 0; i < 2000; i++)
        {
            var expected = chronicle.Facts[i] == 0 ? Document.NoFact : Enumerable.Range(0, i).LastOrDefault(j => chronicle.Facts[j] == chronicle.Facts[i], Document.Never);
            Assert.Equal(expected, last[i]);
        }
    }

    [Fact]
    public void An_untrained_model_recalls_nothing_and_every_token_and_fact_is_counted_once()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        using var model = ComparedSystem.Named("own").Create(Sizes);
        DocumentBatch documents = new([new Chronicle(1, 2049).ToDocument(), new Chronicle(2, 2049).ToDocument()]);
        var scores = Scores.Of(model, documents);
        Assert.Equal(Enumerable.Range(0, 2).Sum(row => documents[row].LastTold!.Skip(1).Count(told => told != Document.NoFact)), scores.Cells.Values.Sum(cell => cell.Count));
        Assert.InRange(scores.Perplexity, 60, 400);
        Assert.InRange(scores.Older.Accuracy, 0, 0.2);
        Assert.InRange(scores.Older.Nats, 3.5, 6.5);

        Assert.Equal(new long[] { 0, 1024 }, scores.ByPosition.Select(bin => bin.From));
        Assert.Equal(new long[] { 0, 16, 32, 64 }, scores.ByPlace.Select(bin => bin.From));
        Assert.Equal(new long[] { 512, 512, 1024, 2048 }, scores.ByPlace.Select(bin => bin.Count));
        foreach (var bins in new[] { scores.ByPosition, scores.ByPlace })
        {
            Assert.Equal(2 * 2048, bins.Sum(bin => bin.Count));
            Assert.Equal(scores.Nats, bins.Sum(bin => bin.Count * bin.Nats) / bins.Sum(bin => bin.Count), 1e-9);
        }
    }

    [Fact]
    public void Clearing_each_segment_makes_local_attention_of_any_system()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        using var model = ComparedSystem.Named("norm-delta").Create(Sizes);
        using var local = ComparedSystem.Named("local").Create(Sizes);
        local.Take(model);
        DocumentBatch documents = new([new Chronicle(1, 2049).ToDocument()]);
        Assert.Equal(Scores.Of(local, documents).Nats, Scores.ClearedEachSegment(model, documents), 1e-4);
        Assert.NotEqual(Scores.Of(model, documents).Nats, Scores.ClearedEachSegment(model, documents), 1e-4);
    }

    [Theory]
    [InlineData("xl")]
    [InlineData("rmt")]
    [InlineData("own-two")]
    public void Training_lowers_the_loss(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        using var model = ComparedSystem.Named(name).Create(Sizes);
        var losses = new List<double>();
        var experiment = new Experiment { Sizes = Sizes, Tokens = 40 * 2048 };
        using var trainer = SystemTraining.OfSystem(model, experiment.Open(folder.Path), experiment, seed: 1, isLater: false);
        trainer.Run(0, _ => { }, step => losses.Add(step.Loss), CancellationToken.None);
        Assert.Equal(40, losses.Count);
        Assert.True(losses.TakeLast(3).Average() < losses[0] - 0.5, string.Join(", ", losses));
    }

    [Fact]
    public async Task The_command_trains_what_is_missing_and_writes_table_file_and_chart()
    {
        var arguments = new[] { "recall", "--systems", "own-two", "--seeds", "1", "--tokens", "6K", "--workers", "1", "--documents", "1", "--output", folder.Path };
        TrainQuickBase(new() { Sizes = new() { Vocabulary = Chronicle.Vocabulary }, Tokens = 6144, HeldOutDocuments = 1 });

        var (code, output, error) = await CliTests.Run(arguments);
        Assert.True(code == 0, error);
        Assert.Contains("55,488", output);
        var lines = await File.ReadAllLinesAsync(Path.Combine(folder.Path, "recall.csv"));
        Assert.StartsWith("system,seed,tokens,numbers_held,distance,count,nats,accuracy_percent,perplexity", lines[0], StringComparison.Ordinal);
        Assert.Equal(1 + (2 * 6), lines.Length); // own, too, from which own-two goes on
        Assert.Contains("<svg", await File.ReadAllTextAsync(Path.Combine(folder.Path, "recall.svg")));

        // A second run finds everything there.
        var written = File.GetLastWriteTimeUtc(folder.File("own-1.json"));
        Assert.Equal(0, (await CliTests.Run(arguments)).Code);
        Assert.Equal(written, File.GetLastWriteTimeUtc(folder.File("own-1.json")));

        // The folder is not taken for another experiment.
        (code, _, error) = await CliTests.Run(["recall", "--tokens", "8K", "--documents", "1", "--output", folder.Path]);
        Assert.Equal(1, code);
        Assert.Contains("holds another experiment: Tokens is 6144 and not 8192.", error);
    }

    /// <summary>A base that has read 4096 tokens, as if it had read all that the experiment gives it.</summary>
    private void TrainQuickBase(Experiment experiment)
    {
        (experiment with { BaseTokens = 4096 }).Claim(folder.Path);
        ComparisonJob.Base(folder.Path).Run(_ => { }, log: null, CancellationToken.None);
        File.Delete(folder.File("experiment.json"));
        experiment.Claim(folder.Path);
    }

    [Theory]
    [InlineData("There is no system 'gpt'", "--systems", "gpt")]
    [InlineData("'many' is not a number of tokens", "--tokens", "many")]
    [InlineData("--workers must be at least 1.", "--workers", "0")]
    public async Task Bad_input_ends_with_one_sentence(string message, params string[] arguments)
    {
        var (code, _, error) = await CliTests.Run(["recall", "--output", folder.Path, .. arguments]);
        Assert.Equal(1, code);
        Assert.Contains(message, error);
    }
}
