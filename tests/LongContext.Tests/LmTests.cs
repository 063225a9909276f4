using LongContext.Comparison;
using LongContext.LanguageModel;

namespace LongContext.Tests;

/// <summary>The commands of <c>lm</c>.</summary>
public sealed class LmTests : IDisposable
{
    private static readonly DecoderOptions Sizes = new() { Vocabulary = Chronicle.Vocabulary, Width = 16, Layers = 2, Heads = 2, HeadWidth = 8, SegmentLength = 128 };

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("xl@4K", "is not trained on longer sequences")]
    [InlineData("norm@3K", "A sequence of 3072 tokens")]
    [InlineData("norm@128K", "A sequence of 131072 tokens")]
    public void A_length_that_cannot_be_trained_on_is_refused(string name, string message) =>
        Assert.Contains(message, Assert.Throws<InputException>(() => ComparedSystem.Named(name)).Message);

    [Fact]
    public async Task Systems_are_compared_on_a_text_and_evaluated_again()
    {
        string[] small =
        [
            "--width", "16", "--heads", "2", "--head-width", "8", "--segment", "64", "--tokens", "6K", "--base-tokens", "4K", "--document", "2K", "--held-out-tokens", "3K",
            "--vocabulary", "300", "--output", folder.File("out"),
        ];
        File.WriteAllText(folder.File("train.txt"), TextCorpusTests.Sentences(1, 2000));
        File.WriteAllText(folder.File("test.txt"), TextCorpusTests.Sentences(2, 600));

        var (code, output, error) = await CliTests.Run([
            "lm", "compare", "--text", folder.File("train.txt"), "--held-out", folder.File("test.txt"), "--systems", "xl", "norm-delta-two", "--log", folder.File("log"), .. small,
        ]);
        Assert.True(code == 0, error + output);
        Assert.Contains("bits per", output);
        var rows = await File.ReadAllLinesAsync(folder.File("out/lm.csv"));
        Assert.StartsWith("system,seed,tokens,numbers_held,perplexity,bits_per_byte,", rows[0], StringComparison.Ordinal);
        Assert.Equal(["xl", "norm-delta", "norm-delta-two"], rows.Skip(1).Select(row => row.Split(',')[0])); // all that was trained
        Assert.Contains("xl,1,position,1024,1024,", await File.ReadAllTextAsync(folder.File("out/lm-loss.csv")));
        Assert.Contains("Transformer-XL", await File.ReadAllTextAsync(folder.File("out/lm-position.svg")));
        Assert.True(Directory.EnumerateFiles(folder.File("log"), "*", SearchOption.AllDirectories).Count(file => new FileInfo(file).Length > 0) >= 2);

        // The same experiment goes on with another system; what was trained is not trained again.
        var written = File.GetLastWriteTimeUtc(folder.File("out/xl-1.weights"));
        (code, output, error) = await CliTests.Run(["lm", "train", "--system", "rmt", "--resume", "--output", folder.File("out")]);
        Assert.True(code == 0, error + output);
        Assert.True(File.Exists(folder.File("out/rmt-1.weights")));
        Assert.Equal(written, File.GetLastWriteTimeUtc(folder.File("out/xl-1.weights")));
        Assert.Equal([.. rows[..2], "rmt"], (await File.ReadAllLinesAsync(folder.File("out/lm.csv")))[..3].Select((row, i) => i < 2 ? row : row.Split(',')[0]));

        // The evaluation of the held-out text gives the perplexities of the comparison.
        (code, output, error) = await CliTests.Run(["lm", "eval", "--systems", "xl", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        var perplexity = double.Parse(rows[1].Split(',')[4], System.Globalization.CultureInfo.InvariantCulture);
        Assert.Contains(perplexity.ToString("0.000", System.Globalization.CultureInfo.InvariantCulture), output);

        // And of another text another one.
        (code, output, error) = await CliTests.Run(["lm", "eval", "--systems", "xl", "--held-out", folder.File("train.txt"), "--held-out-tokens", "2K", "--output", folder.File("out")]);
        Assert.True(code == 0, error);
        Assert.DoesNotContain(perplexity.ToString("0.000", System.Globalization.CultureInfo.InvariantCulture), output);
    }

    [Fact]
    public async Task What_cannot_be_read_is_refused_before_anything_is_trained()
    {
        File.WriteAllText(folder.File("train.txt"), TextCorpusTests.Sentences(1, 2000));
        File.WriteAllText(folder.File("short.txt"), "The cat.");
        string[] texts = ["lm", "compare", "--text", folder.File("train.txt"), "--held-out", folder.File("train.txt"), "--systems", "local", "--vocabulary", "300"];

        await Refuses("must have more than 1024", [.. texts[..4], "--text", folder.File("train.txt"), "--held-out", folder.File("short.txt"), .. texts[6..]]);
        using (var large = File.Create(folder.File("large.txt")))
        {
            large.SetLength((16 << 20) + 1);
        }

        await Refuses("large.txt' has more than 16 MB", ["lm", "compare", "--text", folder.File("large.txt"), "--held-out", folder.File("train.txt"), .. texts[6..]]);
        await Refuses("Held-out documents of 5000 tokens cannot be read", [.. texts[..2], "--held-out-tokens", "5000"]);
        File.WriteAllText(folder.File("test.txt"), TextCorpusTests.Sentences(2, 2000));
        await Refuses("No text has 65537 tokens", [.. texts[..4], "--held-out", folder.File("test.txt"), .. texts[6..], "--document", "64K"]);

        async Task Refuses(string message, string[] arguments)
        {
            var (code, _, error) = await CliTests.Run([.. arguments, "--output", folder.File("out")]);
            Assert.Equal(1, code);
            Assert.Contains(message, error);
            Assert.Empty(Directory.Exists(folder.File("out")) ? Directory.GetFiles(folder.File("out"), "*.weights") : []);
            if (Directory.Exists(folder.File("out")))
            {
                Directory.Delete(folder.File("out"), recursive: true);
            }
        }
    }

    /// <summary>One training that fails ends the run with its sentence, and the other trainings with it.</summary>
    [Fact]
    public async Task A_training_that_fails_ends_the_run_with_one_sentence()
    {
        string[] run =
        [
            "lm", "compare", "--workers", "2", "--systems", "xl", "local", "--width", "16", "--heads", "2", "--head-width", "8", "--held-out-tokens", "1K", "--base-tokens", "2K", "--tokens", "64M",
            "--output", folder.File("out"),
        ];
        Directory.CreateDirectory(folder.File("out"));
        File.WriteAllText(folder.File("out/xl-1.checkpoint"), "nothing");

        var (code, _, error) = await CliTests.Run(run);

        Assert.Equal(1, code);
        Assert.StartsWith("xl, seed 1: ", error, StringComparison.Ordinal);
        Assert.Contains("is not a checkpoint", error);
        Assert.Single(error.Trim().Split('\n'));
        Assert.True(File.Exists(folder.File("out/base-1.weights")));
        Assert.False(File.Exists(folder.File("out/local-1.weights"))); // 64M tokens would have taken an hour
    }

    [Fact]
    public async Task Systems_go_on_from_another_experiment_with_other_segments()
    {
        var sizes = "--width 16 --heads 2 --head-width 8 --held-out-tokens 1K --tokens 2K".Split(' ');
        var (code, output, error) = await CliTests.Run(["lm", "compare", "--systems", "paper", "--seeds", "2", "--segment", "32", "--base-tokens", "2K", "--output", folder.File("short"), .. sizes]);
        Assert.True(code == 0, error + output);
        string[] go = ["lm", "compare", "--seeds", "2", "--segment", "128", "--rate", "0", "--from", folder.File("short"), "--output", folder.File("long")];

        (code, _, error) = await CliTests.Run([.. go, .. sizes, "--systems", "norm"]);
        Assert.Equal(1, code);
        Assert.Contains($"norm with seed 2 was not trained in '{folder.File("short")}'.", error);
        (code, _, error) = await CliTests.Run([.. go, "--systems", "paper", "--width", "32"]);
        Assert.Equal(1, code);
        Assert.Contains("have other sizes", error);
        Assert.False(Directory.Exists(folder.File("long")));

        (code, output, error) = await CliTests.Run([.. go, .. sizes, "--systems", "paper"]);
        Assert.True(code == 0, error + output);
        Assert.False(File.Exists(folder.File("long/base-1.weights")));
        using var trained = Load("short", 32);
        using var continued = Load("long", 128);
        var unchanged = trained.named_parameters().Zip(continued.named_parameters()).Where(pair => !pair.First.name.EndsWith("gate", StringComparison.Ordinal)).ToArray();
        Assert.NotEmpty(unchanged);
        Assert.All(unchanged, pair => Assert.Equal(0, (pair.First.parameter - pair.Second.parameter).abs().max().item<float>())); // --rate 0

        ContextDecoder Load(string name, int segment)
        {
            var model = ComparedSystem.Named("paper").Create(Sizes with { SegmentLength = segment });
            model.load(folder.File($"{name}/paper-2.weights"));
            return model;
        }
    }

    /// <summary>One command does what two do: <c>lm compare</c> with short segments, and another that goes on from there.</summary>
    [Fact]
    public async Task Segments_grow_in_one_command()
    {
        string[] sizes = [.. "--width 16 --heads 2 --head-width 8 --held-out-tokens 1K --seeds 2".Split(' ')];
        string[] tokens = [.. "--short-segment 32 --short-tokens 4K --base-tokens 2K --tokens 6K".Split(' ')];
        var (code, output, error) = await CliTests.Run(["lm", "grow", "--systems", "norm-delta-two", "--output", folder.File("grown"), .. tokens, .. sizes]);
        Assert.True(code == 0, error + output);
        Assert.Contains("Segments of 32 tokens", output);
        Assert.Contains("Segments of 128 tokens", output);
        Assert.Equal(["norm-delta"], await Systems("grown/segment-32"));
        Assert.Equal(["norm-delta", "norm-delta-two"], await Systems("grown"));

        foreach (var stage in new[] { "--segment 32 --tokens 4K --base-tokens 2K --systems norm-delta --output short", "--from short --tokens 6K --systems norm-delta-two --output long" })
        {
            (code, output, error) = await CliTests.Run(["lm", "compare", .. sizes, .. stage.Split(' ').Select(word => word is "short" or "long" ? folder.File(word) : word)]);
            Assert.True(code == 0, error + output);
        }

        foreach (var name in new[] { "norm-delta-2", "norm-delta-two-2" })
        {
            Assert.Equal(File.ReadAllBytes(folder.File($"long/{name}.weights")), File.ReadAllBytes(folder.File($"grown/{name}.weights")));
        }

        // Interrupted in the first stage, and resumed with nothing but the folder.
        var weights = File.ReadAllBytes(folder.File("grown/norm-delta-2.weights"));
        foreach (var file in Directory.GetFiles(folder.File("grown"), "*-2.*", SearchOption.AllDirectories))
        {
            File.Delete(file);
        }

        (code, output, error) = await CliTests.Run(["lm", "grow", "--resume", "--systems", "norm-delta", "--seeds", "2", "--output", folder.File("grown")]);
        Assert.True(code == 0, error + output);
        Assert.Equal(weights, File.ReadAllBytes(folder.File("grown/norm-delta-2.weights")));

        (code, _, error) = await CliTests.Run(["lm", "grow", "--resume", "--systems", "norm-delta", "--output", folder.File("short")]);
        Assert.Equal(1, code);
        Assert.Contains("did not begin with short segments", error);

        async Task<IEnumerable<string>> Systems(string name) => (await File.ReadAllLinesAsync(folder.File($"{name}/lm.csv"))).Skip(1).Select(row => row.Split(',')[0]);
    }

    [Theory]
    [InlineData("There is no experiment in", "lm", "compare", "--from", "nowhere")]
    [InlineData("--short-segment is 24; it must be a power of two from 8 to 64, half of --segment.", "lm", "grow", "--short-segment", "24")]
    [InlineData("--short-segment is 128; it must be a power of two from 8 to 64, half of --segment.", "lm", "grow", "--short-segment", "128")]
    [InlineData("leave --from out", "lm", "grow", "--from", "nowhere")]
    [InlineData("leave --short-tokens out", "lm", "grow", "--resume", "--short-tokens", "1M")]
    [InlineData("leave --segment out", "lm", "grow", "--resume", "--segment", "64")]
    [InlineData("The training of paper would read 1024 tokens, and one step reads 2048", "lm", "grow", "--systems", "paper", "--short-tokens", "1K")]
    [InlineData("The training of paper would read 1024 tokens, and one step reads 2048", "lm", "grow", "--systems", "paper", "--tokens", "1K")]
    [InlineData("--workers must be at least 1.", "lm", "grow", "--workers", "0")]
    [InlineData("--text needs --held-out", "lm", "compare", "--text", "a.txt")]
    [InlineData("--held-out needs --text", "lm", "compare", "--held-out", "a.txt")]
    [InlineData("There is no file", "lm", "compare", "--text", "no.txt", "--held-out", "no.txt")]
    [InlineData("--segment is 100; it must be a power of two from 8 to 1024.", "lm", "compare", "--segment", "100")]
    [InlineData("--segment is 2048; it must be a power of two from 8 to 1024.", "lm", "compare", "--segment", "2048")]
    [InlineData("--step is 64; it must be a multiple of the segment of 128 tokens.", "lm", "compare", "--step", "64")]
    [InlineData("--document is 1000; it must be a multiple of the 1024 tokens of a step", "lm", "compare", "--document", "1000")]
    [InlineData("and at most 1M", "lm", "compare", "--document", "2M")]
    [InlineData("--document is 2048; it must be a multiple of the 4096 tokens of a step", "lm", "compare", "--step", "4K")]
    [InlineData("--rows is 0; it must be at least 1.", "lm", "compare", "--rows", "0")]
    [InlineData("--rate must be at least 0 and less than 1.", "lm", "compare", "--rate", "NaN")]
    [InlineData("leave --tokens out", "lm", "compare", "--resume", "--tokens", "6M")]
    [InlineData("leave --base-tokens out", "lm", "compare", "--from", "nowhere", "--base-tokens", "1M")]
    [InlineData("leave --vocabulary out", "lm", "compare", "--vocabulary", "300")]
    [InlineData("The training of base would read 512 tokens, and one step reads 1024", "lm", "compare", "--base-tokens", "512")]
    [InlineData("The training of norm-delta-two would read 1024 tokens, and one step reads 2048", "lm", "compare", "--tokens", "3K")]
    [InlineData("The training of norm-delta@1K would read 32768 tokens, and one step reads 65536", "lm", "lengths", "--tokens", "32K")]
    [InlineData("The base is trained by itself", "lm", "train", "--system", "base")]
    [InlineData("--head-width is 7; it must be even", "lm", "train", "--system", "xl", "--head-width", "7")]
    [InlineData("--layers is 0; it must be at least 1.", "lm", "train", "--system", "xl", "--layers", "0")]
    [InlineData("--people is 50; it must be from 2 to 32.", "lm", "train", "--system", "xl", "--people", "50")]
    [InlineData("There is no system 'gpt'", "lm", "train", "--system", "gpt")]
    [InlineData("There is no experiment in", "lm", "train", "--system", "xl", "--resume")]
    [InlineData("There is no experiment in", "lm", "eval")]
    public async Task Bad_input_ends_with_one_sentence(string message, params string[] arguments)
    {
        var (code, _, error) = await CliTests.Run([.. arguments, "--output", folder.File("out")]);
        Assert.Equal(1, code);
        Assert.Contains(message, error);
        Assert.False(Directory.Exists(folder.File("out")));
    }
}
