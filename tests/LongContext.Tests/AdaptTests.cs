using InfiniAttention;
using LongContext.Adapt;
using static TorchSharp.torch;

namespace LongContext.Tests;

public sealed class AdaptTests
{
    private static readonly AdaptSettings Settings = new() { PlainSteps = 12, ContinuedSteps = 6, BatchTokens = 512 };

    [Fact]
    public void Every_question_asks_for_a_pair_that_was_written_before_it()
    {
        var task = new RecallTask(3);
        for (var draw = 0; draw < 50; draw++)
        {
            foreach (var batch in new[] { task.Anywhere(2, 64), task.Anywhere(2, 256), task.Apart(2, 64, 64), task.Apart(2, 320, 64, 100) })
            {
                var (all, isAnswer) = (batch.Tokens(0, batch.Length), batch.Answers(0, batch.Length));
                Assert.All(all, token => Assert.InRange(token, 0, RecallTask.Vocabulary - 1));
                for (var row = 0; row < batch.Rows; row++)
                {
                    var tokens = all.AsSpan(row * batch.Length, batch.Length).ToArray();
                    var answers = Enumerable.Range(0, batch.Length).Where(t => isAnswer[row * batch.Length + t]).ToList();
                    Assert.NotEmpty(answers);
                    foreach (var t in answers)
                    {
                        // the question "? key value" follows "key value" without a question mark
                        var written = Enumerable.Range(0, t - 2).Where(s => tokens[s] == tokens[t - 1] && tokens[s + 1] == tokens[t] && (s == 0 || tokens[s - 1] != tokens[t - 2]));
                        Assert.Single(written);
                    }
                }
            }
        }
    }

    [Fact]
    public void Far_questions_stand_in_the_last_segment_and_their_pairs_in_the_first()
    {
        var batch = new RecallTask(4).Apart(8, 512, 64, 100);
        var (tokens, isAnswer, weights) = (batch.Tokens(0, 512), batch.Answers(0, 512), batch.WriteWeights(0, 512));
        var pairs = Enumerable.Range(0, tokens.Length).Where(t => tokens[t] is >= 39 and < 55 && !isAnswer[t]).Select(t => t % 512).ToList();
        var answers = Enumerable.Range(0, tokens.Length).Where(t => isAnswer[t]).Select(t => t % 512).ToList();
        Assert.Equal(8 * RecallTask.Pairs, pairs.Count);
        Assert.Equal(8 * RecallTask.Pairs, answers.Count);
        Assert.All(pairs, t => Assert.InRange(t, 0, 63));
        Assert.All(answers, t => Assert.InRange(t, 448, 511));
        Assert.All(Enumerable.Range(0, 8), row => Assert.All(weights[(row * 512)..(row * 512 + 64)].Concat(weights[(row * 512 + 448)..(row * 512 + 512)]), weight => Assert.Equal(1, weight)));
        Assert.Contains(weights, weight => weight > 2);
    }

    [Fact]
    public void A_range_of_a_batch_equals_that_range_of_the_whole_batch()
    {
        var batch = new RecallTask(5).Apart(3, 512, 64, 100);

        Assert.Equal(Cut(batch.Tokens(0, 512)), batch.Tokens(440, 70));
        Assert.Equal(Cut(batch.Answers(0, 512)), batch.Answers(440, 70));
        Assert.Equal(Cut(batch.WriteWeights(0, 512)), batch.WriteWeights(440, 70));

        static T[] Cut<T>(T[] rows) => [.. rows.Chunk(512).SelectMany(row => row[440..510])];
    }

    [Fact]
    public void A_cancelled_evaluation_ends_without_a_result()
    {
        using var scope = NewDisposeScope();
        using var cancellation = new CancellationTokenSource();
        var model = PlainDecoder.Create();
        for (var layer = 0; layer < PlainDecoder.Config.Layers; layer++)
        {
            PlainDecoder.Convert(model, layer, Settings);
        }

        var segments = 0;
        void Cancel(SegmentReport segment)
        {
            segments++;
            cancellation.Cancel();
        }

        Assert.Null(new RecallEvaluator(Settings).Streamed(model, 1 << 20, cancellation.Token, stream => stream.SegmentWritten += Cancel));
        Assert.Equal(PlainDecoder.Config.Layers * 4096 / Settings.Window, segments);
    }

    [Theory]
    [InlineData(MemoryUpdate.Linear)]
    [InlineData(MemoryUpdate.Delta)]
    public void A_converted_decoder_is_unchanged_within_its_window_and_differs_beyond(MemoryUpdate rule)
    {
        using var scope = NewDisposeScope();
        manual_seed(2);
        var (plain, converted) = (PlainDecoder.Create(), PlainDecoder.Create());
        converted.load_state_dict(plain.state_dict());
        for (var layer = 0; layer < PlainDecoder.Config.Layers; layer++)
        {
            PlainDecoder.Convert(converted, layer, Settings with { Rule = rule });
            var (difference, largest) = new RecallEvaluator(Settings).Compare(plain, converted);
            Assert.True(difference < 1e-5 * largest, $"layer {layer}: {difference}");
        }

        Assert.Equal(PlainDecoder.Config.Layers, InfiniAttentionModule.GateParameters(converted).Count);
        Assert.Equal(plain.parameters().Count() + PlainDecoder.Config.Layers, converted.parameters().Count());
        var tokens = randint(RecallTask.Vocabulary, [1, 3 * Settings.Window], int64);
        Assert.False(plain.call(tokens).allclose(converted.call(tokens), 1e-3, 1e-3));
    }

    [Fact]
    public void Both_trainings_learn_and_the_second_moves_the_gates()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var trainer = new AdaptTrainer(Settings);
        var model = PlainDecoder.Create();
        var (plainLosses, losses) = (new List<double>(), new List<double>());
        trainer.TrainPlain(model, step => plainLosses.Add(step.Loss), CancellationToken.None);
        for (var layer = 0; layer < PlainDecoder.Config.Layers; layer++)
        {
            PlainDecoder.Convert(model, layer, Settings);
        }

        trainer.Continue(model, step => losses.Add(step.Loss), CancellationToken.None);

        Assert.Equal(Settings.PlainSteps, plainLosses.Count);
        Assert.Equal(Settings.ContinuedSteps, losses.Count);
        Assert.True(plainLosses[^1] < plainLosses[0]);
        for (var layer = 0; layer < PlainDecoder.Config.Layers; layer++)
        {
            var gates = InfiniAttentionModule.GateParameters(model)[layer].detach().data<float>().ToArray();
            Assert.All(gates.Zip(Settings.InitialGates(layer)), gate => Assert.NotEqual(gate.First, gate.Second));
        }
    }

    [Fact]
    public async Task The_command_prints_its_tables_and_writes_its_heat_maps()
    {
        using var folder = new TemporaryFolder();

        var (code, output, error) = await CliTests.Run(["adapt", "--plain-steps", "2", "--steps", "2", "--longest", "256", "--svg", folder.File("maps")]);

        Assert.Equal("", error);
        Assert.Equal(0, code);
        Assert.Contains("layer 2 converted", output);
        Assert.Contains("Recall", output);
        Assert.Contains("Gates", output);
        Assert.Contains("retrieval error", output);
        Assert.Contains("layer 2, continued", File.ReadAllText(folder.File("maps/gates.svg")));
        Assert.Contains(">4<", File.ReadAllText(folder.File("maps/retrieval.svg")));
    }

    [Fact]
    public async Task An_interrupted_run_prints_what_was_measured_so_far()
    {
        if (OperatingSystem.IsWindows())
        {
            return; // signals cannot be sent to another process there
        }

        var (code, output) = await CliTests.RunAndInterrupt("layer 2 converted", "adapt", "--plain-steps", "2", "--steps", "1000000", "--longest", "256");

        Assert.Equal(Cli.Interrupted, code);
        Assert.Contains("Interrupted: this is what was measured so far.", output);
        Assert.Matches(@"│ +256 │ +\d+ │ +\d+ │ +– │", output);
        Assert.Contains("Gates", output);
    }

    [Theory]
    [InlineData("--longest is 64; it must be from 128 to 1M tokens.", "--longest", "64")]
    [InlineData("--steps is 0; it must be at least 1.", "--steps", "0")]
    [InlineData("There is no update rule 'cosine': it is linear or delta.", "--rule", "cosine")]
    public async Task Bad_input_ends_with_one_sentence(string message, params string[] arguments)
    {
        var (code, _, error) = await CliTests.Run(["adapt", .. arguments]);

        Assert.Equal(1, code);
        Assert.Contains(message, error);
        Assert.Single(error.Trim().Split('\n'));
    }
}
