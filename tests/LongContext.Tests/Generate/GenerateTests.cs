using LongContext.Generate;
using LongContext.Models;
using LongContext.Tests.Models;
using static TorchSharp.torch;

namespace LongContext.Tests.Generate;

public sealed class GenerateTests : IDisposable
{
    private const string Prompt = "w5 w7 w9 w11 w5 w7 w9 w11 w30 w31 w5 w7 w9";

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("LLaMA 3.1")]
    [InlineData("GPT-2")]
    public async Task The_text_is_that_of_the_model_read_in_one_call(string family)
    {
        var expected = Expected(family, 12);
        Assert.Equal(expected, Words((await Run("--prompt", folder.File("prompt.txt"), "--tokens", "12")).Output));
    }

    [Fact]
    public async Task A_saved_stream_goes_on_where_it_stopped()
    {
        var expected = Expected("Qwen 3", 12);
        var stream = folder.File("a.stream");
        var first = await Run("--prompt", folder.File("prompt.txt"), "--tokens", "5", "--save", stream);
        Assert.Contains("Saved: ", first.Output);
        var second = await Run("--continue", stream, "--tokens", "7");
        Assert.Equal(expected, Words(first.Output).Concat(Words(second.Output)));

        var (code, _, error) = await Run("--continue", stream, "--rule", "delta");
        Assert.Equal(1, code);
        Assert.Contains("cannot be continued with this model", error);
    }

    [Fact]
    public async Task A_continuation_can_read_more_text_first()
    {
        Expected("Mistral", 1);
        var (stream, more) = (folder.File("a.stream"), folder.File("more.txt"));
        await Run("--prompt", folder.File("prompt.txt"), "--tokens", "1", "--save", stream);
        File.WriteAllText(more, "w3 w4");
        var twoSteps = Words((await Run("--continue", stream, "--prompt", more, "--tokens", "6")).Output);
        File.WriteAllText(folder.File("prompt.txt"), $"{Prompt} {Expected("Mistral", 1)[0]} w3 w4");
        Assert.Equal(Words((await Run("--prompt", folder.File("prompt.txt"), "--tokens", "6")).Output), twoSteps);
    }

    [Fact]
    public void Special_tokens_are_put_before_a_text_but_not_before_its_continuation()
    {
        Write("LLaMA 2", out _);
        TinyFolder.WriteTokenizer(folder.Path, "w1", [.. Enumerable.Range(1, FamilyCase.Vocabulary - 1).Select(token => ($"w{token}", token))]);
        using var model = PretrainedModel.Load(folder.Path, new() { SegmentLength = FamilyCase.Segment });
        using var generation = new Generation(model);
        var tokens = generation.Tokens("w5 w6");
        Assert.Equal([1, 5, 6], tokens);
        generation.Read(tokens);
        Assert.Equal([7, 8], generation.Tokens("w7 w8"));
    }

    [Fact]
    public async Task Bad_input_ends_with_one_sentence()
    {
        Expected("Mistral", 1);
        await Refused("give --prompt, --continue or both");
        await Refused("--temperature must be", "--prompt", folder.File("prompt.txt"), "--temperature", "NaN");
        await Refused("--top-p must be", "--prompt", folder.File("prompt.txt"), "--top-p", "0");
        await Refused("--segment must be at least 1", "--prompt", folder.File("prompt.txt"), "--segment", "0");
        await Refused("sliding_window is 8", "--prompt", folder.File("prompt.txt"), "--segment", "9");
        await Refused("nowhere.txt", "--prompt", folder.File("nowhere.txt"));
        File.WriteAllText(folder.File("prompt.txt"), "");
        await Refused("The prompt is empty", "--prompt", folder.File("prompt.txt"));

        async Task Refused(string message, params string[] arguments)
        {
            var (code, _, error) = await Run(arguments);
            Assert.Equal(1, code);
            Assert.Contains(message, error);
            Assert.Single(error.Trim().Split('\n'));
        }
    }

    [Fact]
    public async Task Logits_of_another_program_are_compared_up_to_the_first_boundary()
    {
        var family = Write("LLaMA 2", out var weights);
        using var scope = NewDisposeScope();
        var tokens = randint(0, FamilyCase.Vocabulary, [1, 2 * FamilyCase.Segment]);
        var logits = family.Logits(weights, tokens);
        File.WriteAllLines(folder.File("logits.txt"), Enumerable.Range(0, 2 * FamilyCase.Segment).Select(t =>
            string.Join(' ', logits[0, t].data<double>().ToArray().Prepend(tokens[0, t].item<long>()).Select(number => FormattableString.Invariant($"{number:R}")))));
        var arguments = new[] { "logits", "--model", folder.Path, "--segment", "8", "--expected" };

        var (code, output, _) = await CliTests.Run([.. arguments, folder.File("logits.txt")]);

        Assert.Equal(0, code);
        Assert.Matches(@"^8 tokens, up to the first boundary: logits differ by at most \d\.\de-[5-9] of", output);
        File.WriteAllText(folder.File("logits.txt"), "99 1 2 3\n");
        Assert.Contains("Line 1 of", (await CliTests.Run([.. arguments, folder.File("logits.txt")])).Error);
    }

    [Fact]
    public void Text_of_tokens_waits_for_whole_characters_and_keeps_the_spaces_between_words()
    {
        using var tokenizer = new Pieces("Hello", " wor", "ld");
        var text = new TextOfTokens(tokenizer, [0]);
        Assert.Equal([" wor", "ld", "", "\u00e9", " wor"], new long[] { 1, 2, 100, 101, 1 }.Select(text.Add));
    }

    /// <summary>The words that the most probable tokens give, from the whole text in one call for each token.</summary>
    private string[] Expected(string family, int count)
    {
        Write(family, out _);
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var model = PretrainedModel.Load(folder.Path, new() { SegmentLength = FamilyCase.Segment });
        var tokens = model.Tokenizer.Encode(Prompt).ToList();
        var words = new List<string>();
        while (words.Count < count)
        {
            var logits = model.Decoder.call(tensor(tokens.ToArray()).unsqueeze(0));
            tokens.Add(logits[0, -1].argmax().item<long>());
            words.Add($"w{tokens[^1]}");
        }

        return [.. words];
    }

    private FamilyCase Write(string name, out Dictionary<string, Tensor> weights)
    {
        manual_seed(8);
        var family = FamilyCase.Of(name);
        family = family with { Config = family.Config.Replace("\"eos_token_id\": 2", "\"eos_token_id\": null") };
        weights = family.Weights();
        TinyFolder.Write(folder.Path, family.Config, weights);
        TinyFolder.WriteTokenizer(folder.Path, [.. Enumerable.Range(1, FamilyCase.Vocabulary - 1).Select(token => ($"w{token}", token))]);
        File.WriteAllText(folder.File("prompt.txt"), Prompt);
        return family;
    }

    private Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        return CliTests.Run(["generate", "--model", folder.Path, .. Unless("--temperature", "0"), .. Unless("--segment", "8"), .. arguments]);

        string[] Unless(string option, string value) => arguments.Contains(option) ? [] : [option, value];
    }

    /// <summary>The words of the text, which is before the line that says what was saved, and after the progress bar.</summary>
    private static string[] Words(string output) => [.. output.Split('\n').Where(line => line.StartsWith('w') || line.StartsWith(" w") || line.StartsWith("[UNK]", StringComparison.Ordinal))
        .SelectMany(line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries)).Select(word => word.Replace("[UNK]", "w0"))];

    /// <summary>Pieces of text, and bytes of é as tokens 100 and 101.</summary>
    private sealed class Pieces(params string[] pieces) : ITextTokenizer
    {
        public long[] Encode(string text) => throw new NotSupportedException();

        public string Decode(IReadOnlyList<long> tokens) => System.Text.Encoding.UTF8.GetString(
            [.. tokens.SelectMany(token => token == 100 ? [0xC3] : token == 101 ? new byte[] { 0xA9 } : System.Text.Encoding.UTF8.GetBytes(pieces[token]))]);

        public void Dispose()
        {
        }
    }
}
