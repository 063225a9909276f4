using System.Buffers.Binary;
using System.Text.Json;
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
            layer.Infini.Gate.copy_(randn(FamilyCase.Heads));
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
        var text = Words();
        string[] arguments = ["adapt", "--model", Source, "--text", text, "--output", Target, "--segment", "8", "--length", "32", "--rate", "0.01", "--steps"];

        var (code, output, error) = await CliTests.Run([.. arguments, "20", "--log", folder.File("log")]);

        Assert.Equal("", error);
        Assert.Equal(0, code);
        Assert.Contains("layer 2 converted: outputs differ by", output);
        var row = Row(output, "24 to 31");
        Assert.True(row[2] < row[1] / 2, string.Join(' ', row));
        Assert.Contains("Saved: ", output);
        Assert.NotEmpty(Directory.GetFiles(folder.File("log")));

        var again = await CliTests.Run([.. arguments, "20"]); // the training is over, so that it only evaluates
        Assert.Equal(0, again.Code);
        Assert.Contains("belongs to another training", (await CliTests.Run([.. arguments, "21"])).Error);
        Assert.Contains("belongs to another training", (await CliTests.Run([.. arguments, "20", "--rule", "delta"])).Error); // weights of the same shapes
        Assert.Contains("leave --plain-steps out", (await CliTests.Run([.. arguments, "20", "--plain-steps", "3"])).Error);

        Assert.Contains("was converted already", (await CliTests.Run(["adapt", "--model", Target, "--rule", "delta", "--text", text, "--output", Source, "--steps", "1"])).Error);
        File.WriteAllText(folder.File("prompt.txt"), "w1 w2 w3");
        Assert.Equal(0, (await CliTests.Run(["generate", "--model", Target, "--prompt", folder.File("prompt.txt"), "--tokens", "3"])).Code);
        Assert.Contains("leave --segment out", (await CliTests.Run(["generate", "--model", Target, "--prompt", folder.File("prompt.txt"), "--segment", "4"])).Error);
    }

    [Fact]
    public async Task Adapters_are_trained_and_merged_into_an_ordinary_folder()
    {
        Write("Phi-3 with LongRoPE");
        var weights = File.ReadAllBytes(Path.Combine(Source, "model.safetensors"));
        string[] arguments = ["adapt", "--model", Source, "--text", Words(), "--output", Target, "--segment", "8", "--length", "32", "--rate", "0.03", "--lora", "4", "--steps", "20"];

        var (code, output, error) = await CliTests.Run(arguments);

        Assert.Equal("", error);
        Assert.Equal(0, code);
        Assert.Contains("adapters of rank 4: 1,800 parameters are trained", output); // in each of two layers 4 (32 + 32) twice, 4 (32 + 16) twice, and four gates
        var row = Row(output, "24 to 31");
        Assert.True(row[2] < 0.9 * row[1], string.Join(' ', row));
        Assert.Equal(row[2], Row((await CliTests.Run(arguments)).Output, "24 to 31")[2]); // the adapters of the checkpoint are merged again

        var folders = new[] { Source, Target }.Select(path => SafetensorsNames(Path.Combine(path, "model.safetensors"))).ToArray();
        Assert.Equal(["model.layers.0.self_attn.gate", "model.layers.1.self_attn.gate"], folders[1].Except(folders[0]).Order());
        Assert.Empty(folders[0].Except(folders[1]));
        Assert.Equal(weights, File.ReadAllBytes(Path.Combine(Source, "model.safetensors")));
        var whole = await CliTests.Run([.. arguments, "--alpha", "8"]);
        Assert.Contains("belongs to another training", whole.Error);
    }

    [Fact]
    public async Task A_new_model_is_trained_from_a_configuration_and_a_tokenizer()
    {
        Write("GPT-2");
        File.Delete(Path.Combine(Source, "model.safetensors"));
        string[] arguments =
        [
            "adapt", "--model", Source, "--text", Words(), "--output", Target, "--segment", "8", "--length", "8", "--batch", "4", "--rate", "0.03", "--steps", "30", "--held-out-sequences", "2",
        ];
        Assert.Contains("neither model.safetensors nor", (await CliTests.Run(arguments)).Error);

        var (code, output, error) = await CliTests.Run([.. arguments, "--from-scratch"]);

        Assert.Equal("", error);
        Assert.Equal(0, code);
        var row = Row(output, "0 to 7");
        Assert.InRange(row[0], 0.8 * FamilyCase.Vocabulary, 1.25 * FamilyCase.Vocabulary); // before, without a plain model beside it
        Assert.True(row[1] < 10, string.Join(' ', row));
        Assert.Equal(row[1], row[2]); // in a single segment there is no memory
        Assert.DoesNotContain(SafetensorsNames(Path.Combine(Target, "model.safetensors")), name => name.EndsWith(".gate", StringComparison.Ordinal));
        Assert.Null(PretrainedModel.SavedOptions(Target)); // a plain model, to be converted in any way
        File.WriteAllText(folder.File("prompt.txt"), "w1 w2 w3");
        Assert.Equal(0, (await CliTests.Run(["generate", "--model", Target, "--prompt", folder.File("prompt.txt"), "--tokens", "3"])).Code);
    }

    [Theory]
    [InlineData("--lora", "4")]
    [InlineData("--alpha", "4")]
    [InlineData("--from-scratch")]
    public async Task Options_of_a_folder_are_refused_without_one(params string[] option)
    {
        var (code, _, error) = await CliTests.Run(["adapt", .. option]);
        Assert.Equal(1, code);
        Assert.Contains($"{option[0]} needs --model", error);
    }

    [Theory]
    [InlineData("--model needs --output")]
    [InlineData("--model needs --text", "--output", "OUT")]
    [InlineData("--rate must be", "--output", "OUT", "--text", "TEXT", "--rate", "0")]
    [InlineData("leave --from-scratch out", "--output", "OUT", "--text", "TEXT", "--lora", "8", "--from-scratch")]
    [InlineData("--alpha needs --lora", "--output", "OUT", "--text", "TEXT", "--alpha", "8")]
    [InlineData("rank of the adapters is 0; it must be from 1 to 24", "--output", "OUT", "--text", "TEXT", "--lora", "0")]
    [InlineData("rank of the adapters is 25; it must be from 1 to 24", "--output", "OUT", "--text", "TEXT", "--lora", "25")]
    [InlineData("alpha of the adapters is -1", "--output", "OUT", "--text", "TEXT", "--lora", "4", "--alpha", "-1")]
    [InlineData("--batch is 0; it must be at least 1.", "--output", "OUT", "--text", "TEXT", "--batch", "0")]
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

    /// <summary>A file of words that mostly follow each other in one order.</summary>
    private string Words()
    {
        var random = new Random(3);
        File.WriteAllText(folder.File("text.txt"), string.Join(' ', Enumerable.Range(0, 1500).Select(i => $"w{1 + ((i + random.Next(2)) % 5)}")));
        return folder.File("text.txt");
    }

    /// <summary>The numbers of a row of the table.</summary>
    private static double[] Row(string output, string tokens) =>
        [.. output.Split('\n').First(line => line.Contains(tokens, StringComparison.Ordinal))
            .Split('│', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)[1..].Where(cell => cell != "–").Select(double.Parse)];

    private static string[] SafetensorsNames(string path)
    {
        var file = File.ReadAllBytes(path);
        using var header = JsonDocument.Parse(file.AsMemory(8, (int)BinaryPrimitives.ReadInt64LittleEndian(file)));
        return [.. header.RootElement.EnumerateObject().Select(entry => entry.Name).Where(name => name != "__metadata__")];
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
