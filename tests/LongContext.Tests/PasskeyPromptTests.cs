using System.Text;
using LongContext.Passkey;

namespace LongContext.Tests;

public class PasskeyPromptTests
{
    private static readonly string Needle = "The pass key is 90541. Remember it. 90541 is the pass key. ";

    [Fact]
    public void A_prompt_is_instruction_filler_key_filler_question()
    {
        var prompt = new PasskeyPrompt("90541", 500, 42, Haystack.Periodic);

        var text = Text(prompt);

        var filler = string.Concat(Enumerable.Repeat("The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ", 10));
        var tokens = (int)PasskeyPrompt.FillerTokens(500);
        Assert.Equal(PasskeyPrompt.Instruction + filler[..42] + Needle + filler[42..tokens] + "What is the pass key? The pass key is ", text);
        Assert.Equal(500, text.Length);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(1000)]
    public void Every_window_is_a_part_of_the_whole(int seed)
    {
        var random = new Random(seed);
        var prompt = new PasskeyPrompt("00012", 2000, random.Next(1000), new Haystack("words", "some words to read"u8), random.Next(50));
        var whole = Text(prompt);

        for (var i = 0; i < 200; i++)
        {
            var offset = random.Next(2000);
            var window = new long[random.Next(2000 - offset + 1)];
            prompt.CopyTo(window, offset);
            Assert.Equal(whole.Substring(offset, window.Length), string.Concat(window.Select(token => (char)token)));
        }
    }

    [Fact]
    public void The_needle_is_where_the_prompt_says()
    {
        var prompt = new PasskeyPrompt("90541", 1000, 300, Haystack.Periodic);

        var (start, end) = prompt.NeedleTokens;

        Assert.Equal(Needle, Text(prompt)[(int)start..(int)end]);
    }

    [Fact]
    public void Without_instruction_the_filler_comes_first()
    {
        var prompt = new PasskeyPrompt("90541", 123, 0, Haystack.Periodic, withInstruction: false);

        Assert.StartsWith(Needle, Text(prompt));
        Assert.EndsWith(PasskeyPrompt.Question, Text(prompt));
    }

    [Fact]
    public void A_prompt_without_filler_is_the_shortest()
    {
        var shortest = -PasskeyPrompt.FillerTokens(0);

        Assert.Equal(PasskeyPrompt.Instruction + Needle + PasskeyPrompt.Question, Text(new PasskeyPrompt("90541", shortest, 0, Haystack.Periodic)));
        var error = Assert.Throws<InputException>(() => new PasskeyPrompt("90541", shortest - 1, 0, Haystack.Periodic));
        Assert.Contains($"{shortest - 1} tokens is too short", error.Message);
        Assert.Contains($"take {shortest}", error.Message);
    }

    [Fact]
    public void A_window_outside_the_prompt_is_refused()
    {
        var prompt = new PasskeyPrompt("90541", 500, 0, Haystack.Periodic);

        Assert.Throws<ArgumentOutOfRangeException>(() => prompt.CopyTo(new long[2], 499));
        Assert.Throws<ArgumentOutOfRangeException>(() => prompt.CopyTo(new long[2], -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new PasskeyPrompt("90541", 500, 400, Haystack.Periodic));
    }

    private static string Text(PasskeyPrompt prompt)
    {
        var tokens = new long[prompt.Length];
        prompt.CopyTo(tokens, 0);
        return Encoding.Latin1.GetString([.. tokens.Select(token => (byte)token)]);
    }

    [Theory]
    [InlineData(100_000, 0)]
    [InlineData(100_000, 40_000)]
    [InlineData(100_000, 99_000)]
    [InlineData(300, 10)]
    public void An_excerpt_shows_instruction_key_and_question_once(long length, long before)
    {
        var prompt = new PasskeyPrompt("90541", length, Math.Min(before, PasskeyPrompt.FillerTokens(length)), Haystack.Periodic);
        var excerpt = prompt.Excerpt();
        Assert.StartsWith(PasskeyPrompt.Instruction, excerpt, StringComparison.Ordinal);
        Assert.EndsWith(PasskeyPrompt.Question, excerpt, StringComparison.Ordinal);
        Assert.Equal(2, excerpt.Split("The pass key is 90541. Remember it. 90541 is the pass key. ").Length);
        Assert.Equal(2, excerpt.Split(PasskeyPrompt.Question).Length);
        Assert.InRange(excerpt.Length, 200, 800);
    }
}
