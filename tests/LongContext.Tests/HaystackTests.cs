using LongContext.Passkey;

namespace LongContext.Tests;

public class HaystackTests
{
    [Fact]
    public void The_text_repeats_without_end()
    {
        var haystack = new Haystack("abc", "abc"u8);
        var tokens = new long[8];

        haystack.CopyTo(tokens, 3_000_000_000_002);

        Assert.Equal("cabcabca", string.Concat(tokens.Select(token => (char)token)));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(1, 0)]
    [InlineData(4, 4)]
    [InlineData(6, 4)]
    [InlineData(8, 8)]
    [InlineData(11, 8)]
    public void A_word_starts_after_white_space(long offset, long start)
    {
        Assert.Equal(start, new Haystack("words", "one two\nthree "u8).WordStart(offset));
    }

    [Fact]
    public void In_a_text_without_white_space_a_word_starts_anywhere()
    {
        Assert.Equal(1000, new Haystack("letters", "abc"u8).WordStart(1000));
    }

    [Fact]
    public void An_empty_or_missing_file_is_refused()
    {
        var path = Path.GetTempFileName();
        try
        {
            Assert.Contains("is empty", Assert.Throws<InputException>(() => Haystack.FromFiles([path])).Message);
        }
        finally
        {
            File.Delete(path);
        }
        Assert.Contains("There is no haystack file", Assert.Throws<InputException>(() => Haystack.FromFiles([path])).Message);
    }

    [Fact]
    public void Files_that_are_too_large_together_are_refused()
    {
        using var folder = new TemporaryFolder();
        string[] paths = [folder.File("one"), folder.File("two")];
        foreach (var path in paths)
        {
            using var file = File.Create(path);
            file.SetLength(20 << 20);
        }

        Assert.Equal("The haystack files together are larger than 32 MB: give a part.", Assert.Throws<InputException>(() => Haystack.FromFiles(paths)).Message);
        Assert.Equal(20 << 20, Assert.Single(Haystack.FromFiles(paths[..1])).Length);
    }
}
