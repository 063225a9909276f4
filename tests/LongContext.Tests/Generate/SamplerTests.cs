using LongContext.Generate;

namespace LongContext.Tests.Generate;

public class SamplerTests
{
    private static readonly float[] Logits = [MathF.Log(0.1f), MathF.Log(0.5f), MathF.Log(0.15f), MathF.Log(0.25f)];

    [Fact]
    public void Temperature_0_takes_the_most_probable_token() => Assert.All(Draw(new(0, 0.3, 1), 20), token => Assert.Equal(1, token));

    [Fact]
    public void Tokens_are_drawn_by_their_probabilities()
    {
        var counts = Draw(new(1, 1, 1), 20_000).CountBy(token => token).ToDictionary(entry => entry.Key, entry => entry.Value / 20_000.0);
        Assert.All(Logits.Select((logit, token) => (logit, token)), entry => Assert.Equal(Math.Exp(entry.logit), counts[entry.token], 0.02));
    }

    [Fact]
    public void A_low_temperature_sharpens()
    {
        var counts = Draw(new(0.5, 1, 1), 20_000).CountBy(token => token).ToDictionary(entry => entry.Key, entry => entry.Value / 20_000.0);
        Assert.Equal(0.25 / (0.01 + 0.25 + 0.0225 + 0.0625), counts[1], 0.02);
    }

    [Theory]
    [InlineData(0.4, new long[] { 1 })]
    [InlineData(0.7, new long[] { 1, 3 })]
    [InlineData(0.8, new long[] { 1, 2, 3 })]
    [InlineData(0.95, new long[] { 0, 1, 2, 3 })]
    public void Top_p_keeps_the_fewest_most_probable_tokens_with_that_probability(double topP, long[] kept) =>
        Assert.Equal(kept, Draw(new(1, topP, 2), 2000).Distinct().Order());

    [Fact]
    public void A_seed_repeats_what_is_drawn()
    {
        Assert.Equal(Draw(new(1, 0.9, 7), 50), Draw(new(1, 0.9, 7), 50));
        Assert.NotEqual(Draw(new(1, 0.9, 7), 50), Draw(new(1, 0.9, 8), 50));
    }

    private static long[] Draw(Sampler sampler, int count) => [.. Enumerable.Range(0, count).Select(_ => sampler.Next(Logits))];
}
