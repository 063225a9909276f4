using System.Text.Json;
using LongContext.Comparison;
using LongContext.Generate;
using LongContext.LanguageModel;
using LongContext.Summaries;
using static LongContext.Tests.SummaryPairTests;
using static TorchSharp.torch;

namespace LongContext.Tests;

public sealed class SummaryTests : IDisposable
{
    private static readonly SummarySettings Small = new()
    {
        Sizes = new DecoderOptions { Vocabulary = Encoded.Vocabulary, Width = 16, Heads = 2, HeadWidth = 8, SegmentLength = 64 },
        BaseSteps = 3,
        Steps = 5,
        Longest = 256,
    };

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Inputs_grow_from_a_segment_to_the_longest()
    {
        var settings = Small with { BaseSteps = 100, Steps = 800, Longest = 64 << 4 };

        Assert.All(Enumerable.Range(0, 100), step => Assert.Equal(64, settings.LengthOf(step)));
        Assert.All(Enumerable.Range(100, 100), step => Assert.Equal(128, settings.LengthOf(step)));
        Assert.Equal([128, 256], Enumerable.Range(200, 100).Select(settings.LengthOf).Distinct().Order());
        Assert.Equal([128, 256, 512, 1024], Enumerable.Range(500, 400).Select(settings.LengthOf).Distinct().Order());
        Assert.All(Enumerable.Range(0, 900), step => Assert.Equal(64, (settings with { Longest = 64 }).LengthOf(step)));
    }

    [Fact]
    public void A_short_training_lowers_the_loss()
    {
        var losses = new List<TrainingStep>();
        using var model = SummaryFolder.Create(Small);
        using var training = new SummaryTraining(model, SummaryExamples.Of(Encoded, null), Small with { BaseSteps = 60, Steps = 10 });
        training.Run(0, _ => { }, losses.Add, CancellationToken.None);

        Assert.Equal(70, losses.Count);
        Assert.InRange(losses[0].Loss, 6, 9); // ln of some 700 tokens, and what the initial weights add to it
        Assert.True(losses.TakeLast(10).Average(step => step.Loss) < losses[0].Loss - 2);
        Assert.True(losses.TakeLast(10).Average(step => step.RecallLoss) < losses[0].RecallLoss - 2);
    }

    [Fact]
    public void The_loss_is_that_of_answers_and_of_all_tokens()
    {
        using var scope = NewDisposeScope();
        var settings = Small with { Sizes = Small.Sizes with { SegmentLength = 512 }, BaseSteps = 1, Steps = 0 };
        var examples = SummaryExamples.Of(Encoded, null);
        using var model = SummaryFolder.Create(settings);
        var (all, answers) = (new List<float>(), new List<float>());
        for (var row = 0; row < 2; row++)
        {
            var example = examples.Training(settings.Seed, row, 513);
            DocumentBatch tokens = new([new((ushort[])[.. example.Prompt, .. example.Answer])]);
            var logits = model.call(tokens.Inputs(0, tokens.Length)).flatten(0, 1);
            var losses = nn.functional.cross_entropy(logits, tokens.Targets(0, tokens.Length).flatten(), reduction: nn.Reduction.None).data<float>().ToArray();
            all.AddRange(losses);
            answers.AddRange(losses.TakeLast(example.Answer.Length));
            model.Forget();
        }

        using var training = new SummaryTraining(model, examples, settings);
        TrainingStep done = default;
        training.Run(0, _ => { }, step => done = step, CancellationToken.None);

        Assert.Equal(all.Average(), done.Loss, 1e-4);
        Assert.Equal(answers.Average(), done.RecallLoss, 1e-4);
    }

    [Fact]
    public void A_resumed_training_ends_as_one_that_was_not_interrupted()
    {
        using var scope = NewDisposeScope();
        var examples = SummaryExamples.Of(Encoded, null);
        var checkpoint = folder.File("checkpoint");
        using var whole = SummaryFolder.Create(Small);
        using (var training = new SummaryTraining(whole, examples, Small))
        {
            training.Run(0, step =>
            {
                if (step == 5)
                {
                    TrainingCheckpoint.Save(checkpoint, new TrainingProgress(step, Seconds: 3), whole, training.Optimizer);
                }
            }, _ => { }, CancellationToken.None);
        }

        using var resumed = SummaryFolder.Create(Small with { Seed = 2 });
        using (var training = new SummaryTraining(resumed, examples, Small))
        {
            training.Run(TrainingCheckpoint.Load<TrainingProgress>(checkpoint, resumed, training.Optimizer).Step, _ => { }, _ => { }, CancellationToken.None);
        }

        foreach (var (expected, actual) in whole.parameters().Zip(resumed.parameters()))
        {
            Assert.Equal(0, (expected - actual).abs().max().item<float>());
        }
    }

    /// <summary>Without its memory the model is one with local attention alone: the same losses, and nothing is read from the memory however it is trained.</summary>
    [Fact]
    public void A_local_model_is_trained_as_one_without_a_memory()
    {
        using var scope = NewDisposeScope();
        var examples = SummaryExamples.Of(Encoded, null);
        using var closed = SummaryFolder.Create(Small with { IsLocal = true });
        using var local = ComparedSystem.Named("local").Create(Small.Sizes);
        local.Take(closed);

        var (expected, actual) = (Train(local), Train(closed));

        Assert.Equal(8, actual.Count);
        Assert.All(expected.Zip(actual), losses => Assert.Equal(losses.First, losses.Second, 1e-4));
        foreach (var gate in closed.Attentions.Select(attention => attention.Gate!))
        {
            Assert.True(gate.sigmoid().max().item<float>() < 1e-12);
        }

        List<double> Train(ContextDecoder model)
        {
            var losses = new List<double>();
            using var training = new SummaryTraining(model, examples, Small);
            training.Run(0, _ => { }, step => losses.Add(step.Loss), CancellationToken.None);
            return losses;
        }
    }

    /// <summary>Reading as a stream and writing token by token is the same as predicting from the whole text each time.</summary>
    [Fact]
    public void The_likeliest_tokens_are_written()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = SummaryFolder.Create(Small with { Seed = 3 });
        var text = Book(3, 5).Text;
        var written = new List<ushort>();
        for (ushort[] tokens = Encoded.Prompt(Encoded.Encode(text)); written.Count < 12; tokens = [.. tokens, written[^1]])
        {
            model.Forget();
            var next = (ushort)model.call(new DocumentBatch([new(tokens)]).Inputs(0, tokens.Length))[0, -1].argmax().item<long>();
            written.Add(next);
            if (next == Encoded.End)
            {
                break;
            }
        }

        Assert.Equal(Encoded.Decode(written), new SummaryWriter(model, Encoded, 12, Sampler.Greedy()).Write(text));
    }

    [Fact]
    public void Drawn_tokens_depend_on_the_seed()
    {
        using var model = SummaryFolder.Create(Small);
        Assert.Equal(Write(1), Write(1));
        Assert.NotEqual(Write(1), Write(2));

        string Write(int seed) => new SummaryWriter(model, Encoded, 30, new Sampler(0.5, 0.95, seed)).Write(Book(3, 5).Text);
    }

    [Fact]
    public void A_result_counts_the_facts_that_were_written_and_those_that_were_read()
    {
        SummaryResult result = new(50, true, "In 1801 A.\nIn 1802 X.\nIn 1803 C.\nIn 1803 C.", "In 1801 A.\nIn 1802 B.\nIn 1803 C.\nIn 1804 D.", Told: 2);

        Assert.Equal((0.5, 0.5), (result.Right, result.Ceiling));
        Assert.Null((result with { Told = null }).Right);
        var line = Assert.Single(new SummaryReport([result, result]).Lines);
        Assert.Equal((50, "on", 2, 50, 50), (line.ReadPercent, line.Memory, line.Documents, line.FactsRight, line.FactsRead));
        Assert.Equal(100 * RougeScores.Of(result.Written, result.Reference).One.F, line.Rouge1, 2);
    }

    [Fact]
    public async Task A_model_is_trained_resumed_and_evaluated()
    {
        string[] small = ["--segment", "64", "--width", "16", "--heads", "1", "--vocabulary", "600", "--base-steps", "3", "--steps", "3", "--longest", "128", "--output", folder.File("out")];
        var (code, output, error) = await CliTests.Run(["summary", "train", .. small]);
        Assert.True(code == 0, error + output);
        Assert.Contains("Trained in", output);
        Assert.False(File.Exists(folder.File("out/checkpoint")));

        (code, _, error) = await CliTests.Run(["summary", "train", .. small]);
        Assert.Equal(1, code);
        Assert.Contains("already holds a training", error);

        (code, output, error) = await CliTests.Run(["summary", "train", "--resume", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        Assert.Contains("Finished before", output);

        (code, output, error) = await CliTests.Run(["summary", "eval", "--read", "25,100", "--documents", "2", "--length", "256", "--most", "20", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        Assert.Contains("facts read, %", output);
        var rows = File.ReadAllLines(folder.File("out/summary.csv"));
        Assert.Equal("read_percent,memory,documents,rouge_1,rouge_2,rouge_l,rouge_lsum,facts_right_percent,facts_read_percent", rows[0]);
        Assert.Equal(["25,on,2", "25,off,2", "100,on,2", "100,off,2"], rows.Skip(1).Select(row => string.Join(',', row.Split(',').Take(3))));
        Assert.EndsWith(",100", rows[3], StringComparison.Ordinal);
        Assert.Contains("% of the text read", File.ReadAllText(folder.File("out/summary.svg")));
        Assert.Equal(8, File.ReadAllLines(folder.File("out/summaries.jsonl")).Length);
    }

    [Fact]
    public async Task A_local_model_is_evaluated_once_without_a_memory()
    {
        string[] small = ["--segment", "64", "--width", "16", "--heads", "1", "--vocabulary", "600", "--base-steps", "2", "--steps", "2", "--longest", "128", "--output", folder.File("out")];
        var (code, output, error) = await CliTests.Run(["summary", "train", "--local", .. small]);
        Assert.True(code == 0, error + output);

        (code, _, error) = await CliTests.Run(["summary", "eval", "--read", "50,100", "--documents", "2", "--length", "256", "--most", "5", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        Assert.Equal(["50,off,2", "100,off,2"], File.ReadAllLines(folder.File("out/summary.csv")).Skip(1).Select(row => string.Join(',', row.Split(',').Take(3))));
        Assert.Contains("facts in the part that was read", File.ReadAllText(folder.File("out/summary.svg")));
    }

    [Fact]
    public async Task Pairs_of_a_file_are_trained_on_and_others_evaluated()
    {
        Write("train.jsonl", Enumerable.Range(0, 20));
        Write("test.jsonl", Enumerable.Range(100, 3));
        string[] small = ["--segment", "64", "--width", "16", "--heads", "1", "--vocabulary", "400", "--base-steps", "2", "--steps", "2", "--longest", "128", "--output", folder.File("out")];

        var (code, output, error) = await CliTests.Run(["summary", "train", "--pairs", folder.File("train.jsonl"), "--held-out-pairs", folder.File("test.jsonl"), .. small]);
        Assert.True(code == 0, error + output);

        (code, output, error) = await CliTests.Run(["summary", "eval", "--read", "50", "--most", "5", "--sample", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        Assert.DoesNotContain("facts", output);
        Assert.StartsWith("50,on,3,", File.ReadAllLines(folder.File("out/summary.csv"))[1], StringComparison.Ordinal);

        (code, output, error) = await CliTests.Run(["summary", "eval", "--read", "50", "--most", "5", "--pairs", folder.File("train.jsonl"), "--documents", "7", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        Assert.StartsWith("50,on,7,", File.ReadAllLines(folder.File("out/summary.csv"))[1], StringComparison.Ordinal);

        void Write(string name, IEnumerable<int> seeds) => File.WriteAllLines(folder.File(name), seeds.Select(seed => JsonSerializer.Serialize(Book(seed, 4))));
    }

    [Theory]
    [InlineData("--pairs needs --held-out-pairs", "train", "--pairs", "a")]
    [InlineData("--held-out-pairs needs --pairs", "train", "--held-out-pairs", "a")]
    [InlineData("There is no file", "train", "--pairs", "a", "--held-out-pairs", "b")]
    [InlineData("--segment is 8; it must be at least 32.", "train", "--segment", "8")]
    [InlineData("--longest is 384; it must be a power of two times the segment of 128 tokens", "train", "--longest", "384")]
    [InlineData("--vocabulary is 5000; it must be from 256 to 1024.", "train", "--vocabulary", "5000")]
    [InlineData("A training input of 33 tokens is too short", "train", "--segment", "32", "--longest", "32", "--vocabulary", "256")]
    [InlineData("There is no training of summaries in", "train", "--resume")]
    [InlineData("There is no training of summaries in", "eval")]
    [InlineData("--read holds '0'; each number must be above 0 and at most 100.", "eval", "--read", "50,0")]
    [InlineData("--read holds '101'", "eval", "--read", "101")]
    [InlineData("--documents is 0; it must be at least 1.", "eval", "--documents", "0")]
    [InlineData("'much' is not a number of tokens", "eval", "--length", "much")]
    public async Task Bad_input_ends_with_one_sentence(string message, params string[] arguments)
    {
        var (code, _, error) = await CliTests.Run(["summary", .. arguments, "--output", folder.File("out")]);

        Assert.Equal(1, code);
        Assert.Contains(message, error);
        Assert.Single(error.Trim().Split('\n'));
        Assert.False(Directory.Exists(folder.File("out")));
    }
}
