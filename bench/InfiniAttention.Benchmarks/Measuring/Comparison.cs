namespace InfiniAttention.Benchmarks;

/// <summary>The measurements of one thing.</summary>
internal sealed record Series(string Name, double[] Values)
{
    public double Median => Quantile(Values, 0.5);

    /// <summary>The q-quantile, interpolated between neighbours.</summary>
    public static double Quantile(IReadOnlyCollection<double> values, double q)
    {
        var sorted = values.Order().ToArray();
        var place = q * (sorted.Length - 1);
        var below = (int)place;
        return below + 1 < sorted.Length ? sorted[below] + ((place - below) * (sorted[below + 1] - sorted[below])) : sorted[below];
    }
}

/// <summary>A ratio measured round by round: the two sides of a round ran one right after the other.</summary>
internal sealed record Comparison(Series Numerator, Series Denominator, string Unit)
{
    private readonly double[] ratios = [.. Numerator.Values.Zip(Denominator.Values, (above, below) => above / below)];

    public double Median => Series.Quantile(ratios, 0.5);

    public double LowerQuartile => Series.Quantile(ratios, 0.25);

    public double UpperQuartile => Series.Quantile(ratios, 0.75);

    public int Rounds => ratios.Length;

    /// <summary>The same comparison with values per unit of work, such as per token.</summary>
    public Comparison Per(double numerator, double denominator, string unit) => new(
        Numerator with { Values = [.. Numerator.Values.Select(value => value / numerator)] },
        Denominator with { Values = [.. Denominator.Values.Select(value => value / denominator)] },
        unit);
}
