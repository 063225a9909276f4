using InfiniAttention;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Tests.Models;

/// <summary>A model from a folder, continued on a text and saved as a folder.</summary>
public sealed class FolderAdaptationTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public FolderAdaptationTests()
    {
        Directory.CreateDirectory(Source);
        Directory.CreateDirectory(Target);
    }

    private string Source => folder.File("source");

    private string Target => folder.File("target");

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("LLaMA with biases and linear scaling")]
    [InlineData("Qwen 3")]
    [InlineData("Phi-3 with LongRoPE")]
    [InlineData("GPT-2")]
    public void A_saved_folder_gives_the_same_logits_beyond_the_first_boundary(string name)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        Write(name);
        var options = new ConversionOptions { SegmentLength = FamilyCase.Segment, Update = MemoryUpdate.Delta, Memory = new(Norm: true, LocalSegments: 2) };
        options = name.StartsWith("GPT", StringComparison.Ordinal) ? options with { Memory = new(Norm: true) } : options;
        var decoder = PretrainedModel.LoadDecoder(Source, options);
        foreach (var layer in decoder.Body.Layers)
        {
            layer.Attention.Gate.copy_(randn(FamilyCase.Heads));
        }

        PretrainedModel.Save(decoder, options, Source, Target);

        Assert.Equal(options, PretrainedModel.SavedOptions(Target));
        var tokens = randint(0, FamilyCase.Vocabulary, [2, 5 * FamilyCase.Segment]);
        Assert.Equal(0, (decoder.call(tokens) - PretrainedModel.LoadDecoder(Target, options).call(tokens)).abs().max().item<float>());
        using var model = PretrainedModel.Load(Target, options);
        Assert.Equal([3, 4], model.Tokenizer.Encode("w3 w4"));
    }

    [Fact]
    public async Task The_command_converts_continues_evaluates_and_saves_and_goes_on()
    {
        Write("Qwen 3");
        var text = folder.File("text.txt");
        var random = new Random(3);
        File.WriteAllText(text, string.Join(' ', Enumerable.Range(0, 1500).Select(i => $"w{1 + ((i + random.Next(2)) % 5)}")));
        string[] arguments = ["adapt", "--model", Source, "--text", text, "--output", Target, "--segment", "8", "--length", "32", "--rate", "0.01", "--steps"];

        var (code, output, error) = await CliTests.Run([.. arguments, "20", "--log", folder.File("log")]);

        Assert.Equal("", error);
        Assert.Equal(0, code);
        Assert.Contains("layer 2 converted: outputs differ by", output);
        var row = output.Split('\n').First(line => line.Contains("24 to 31", StringComparison.Ordinal))
            .Split('│', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)[1..].Select(double.Parse).ToArray();
        Assert.True(row[2] < row[1] / 2, string.Join(' ', row));
        Assert.Contains("Saved: ", output);
        Assert.NotEmpty(Directory.GetFiles(folder.File("log")));

        var again = await CliTests.Run([.. arguments, "20"]); // the training is over, so that it only evaluates
        Assert.Equal(0, again.Code);
        Assert.Contains("belongs to another training", (await CliTests.Run([.. arguments, "21"])).Error);

        Assert.Contains("was converted already", (await CliTests.Run(["adapt", "--model", Target, "--rule", "delta", "--text", text, "--output", Source, "--steps", "1"])).Error);
        File.WriteAllText(folder.File("prompt.txt"), "w1 w2 w3");
        Assert.Equal(0, (await CliTests.Run(["generate", "--model", Target, "--prompt", folder.File("prompt.txt"), "--tokens", "3"])).Code);
        Assert.Contains("leave --segment out", (await CliTests.Run(["generate", "--model", Target, "--prompt", folder.File("prompt.txt"), "--segment", "4"])).Error);
    }

    [Theory]
    [InlineData("--model needs --output")]
    [InlineData("--model needs --text", "--output", "OUT")]
    [InlineData("--rate must be", "--output", "OUT", "--text", "TEXT", "--rate", "0")]
    [InlineData("No held-out text has more than 64 tokens", "--output", "OUT", "--text", "TEXT", "--segment", "8")]
    public async Task Bad_input_ends_with_one_sentence(string message, params string[] arguments)
    {
        Write("Qwen 3");
        File.WriteAllText(folder.File("text.txt"), "w1 w2 w3");
        var (code, _, error) = await CliTests.Run(["adapt", "--model", Source, .. arguments.Select(argument => argument switch { "OUT" => Target, "TEXT" => folder.File("text.txt"), _ => argument })]);
        Assert.Equal(1, code);
        Assert.Contains(message, error);
        Assert.Single(error.Trim().Split('\n'));
    }

    private void Write(string name)
    {
        using var scope = NewDisposeScope();
        manual_seed(6);
        var family = FamilyCase.Of(name);
        TinyFolder.Write(Source, family.Config, family.Weights());
        TinyFolder.WriteTokenizer(Source, [.. Enumerable.Range(1, FamilyCase.Vocabulary - 1).Select(token => ($"w{token}", token))]);
    }
}
