namespace LongContext.Tests;

public class TokenCountTests
{
    [Theory]
    [InlineData("512", 512)]
    [InlineData("32K", 32768)]
    [InlineData("1m", 1048576)]
    [InlineData("10M", 10485760)]
    public void Counts_are_read(string text, long tokens) => Assert.Equal(tokens, TokenCount.Parse(text));

    [Theory]
    [InlineData(1048576, "1M")]
    [InlineData(262144, "256K")]
    [InlineData(1000, "1000")]
    public void Counts_are_written(long tokens, string text) => Assert.Equal(text, TokenCount.Format(tokens));

    [Theory]
    [InlineData("")]
    [InlineData("K")]
    [InlineData("-1")]
    [InlineData("0")]
    [InlineData("1.5M")]
    [InlineData("32G")]
    [InlineData("9999999999999M")]
    public void Text_that_is_not_a_count_is_refused(string text) =>
        Assert.Contains("is not a number of tokens", Assert.Throws<InputException>(() => TokenCount.Parse(text)).Message);
}
