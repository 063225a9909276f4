namespace InfiniAttention;

/// <summary>
/// How a model's rotary frequencies differ from Theta^(-2i/W): the entry <c>rope_scaling</c> of a Hugging Face configuration. The formulas are those of Hugging Face's
/// transformers, in float64.
/// </summary>
public abstract record RotaryScaling
{
    private protected RotaryScaling()
    {
    }

    /// <summary>What rotated queries and keys are multiplied by, so that their scores are multiplied by its square.</summary>
    internal virtual double Amplitude => 1;

    /// <summary>Theta^(-2i/W) for each pair i of a rotated width W: the angle, in radians, of one token.</summary>
    internal static double[] Plain(double theta, long width) => [.. Enumerable.Range(0, (int)(width / 2)).Select(i => Math.Pow(theta, -2.0 * i / width))];

    /// <summary>The angle of one token for each pair of the rotated width.</summary>
    /// <param name="theta">The base of the frequencies.</param>
    /// <param name="width">W, the number of a head's elements that are rotated.</param>
    /// <param name="inView">The number of tokens that the local attention sees at most.</param>
    internal abstract double[] Frequencies(double theta, long width, long inView);

    /// <summary>Throws an <see cref="ArgumentException"/> if a number is invalid for the given number of rotated pairs.</summary>
    internal abstract void Validate(long pairs);
}

/// <summary>All frequencies divided by a factor (<c>linear</c>).</summary>
/// <param name="Factor">The factor, greater than 0.</param>
public sealed record LinearRotaryScaling(double Factor) : RotaryScaling
{
    internal override double[] Frequencies(double theta, long width, long inView) => [.. Plain(theta, width).Select(frequency => frequency / Factor)];

    internal override void Validate(long pairs) => OptionChecks.Positive(Factor, nameof(Factor));
}

/// <summary>
/// The scaling of LLaMA 3.1 and later (<c>llama3</c>): pairs with fewer than <paramref name="LowFrequencyFactor"/> turns in the original length are slowed down by the
/// factor, those with more than <paramref name="HighFrequencyFactor"/> are not, and those between partly.
/// </summary>
/// <param name="Factor">The factor, greater than 0.</param>
/// <param name="OriginalLength">The tokens of context that the model was trained with first (<c>original_max_position_embeddings</c>).</param>
/// <param name="LowFrequencyFactor"><c>low_freq_factor</c>, greater than 0.</param>
/// <param name="HighFrequencyFactor"><c>high_freq_factor</c>, greater than <paramref name="LowFrequencyFactor"/>.</param>
public sealed record Llama3RotaryScaling(double Factor, long OriginalLength, double LowFrequencyFactor = 1, double HighFrequencyFactor = 4) : RotaryScaling
{
    internal override double[] Frequencies(double theta, long width, long inView) => [.. Plain(theta, width).Select(Scaled)];

    internal override void Validate(long pairs)
    {
        OptionChecks.Positive(Factor, nameof(Factor));
        OptionChecks.AtLeastOne(OriginalLength, nameof(OriginalLength));
        OptionChecks.Positive(LowFrequencyFactor, nameof(LowFrequencyFactor));
        OptionChecks.Require(HighFrequencyFactor > LowFrequencyFactor && double.IsFinite(HighFrequencyFactor), nameof(HighFrequencyFactor), HighFrequencyFactor,
            $"a finite number greater than LowFrequencyFactor ({LowFrequencyFactor})");
    }

    private double Scaled(double frequency)
    {
        var turns = OriginalLength * frequency / (2 * Math.PI);
        var kept = Math.Clamp((turns - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor), 0, 1);
        return ((1 - kept) * frequency / Factor) + (kept * frequency);
    }
}

/// <summary>The scaling of YaRN (Peng et al., arXiv 2309.00071; <c>yarn</c>).</summary>
/// <param name="Factor">The factor, greater than 0.</param>
/// <param name="OriginalLength">The tokens of context that the model was trained with first (<c>original_max_position_embeddings</c>).</param>
public sealed record YarnRotaryScaling(double Factor, long OriginalLength) : RotaryScaling
{
    /// <summary>Pairs with at least this many turns in the original length keep their frequencies. Default: 32.</summary>
    public double BetaFast { get; init; } = 32;

    /// <summary>Pairs with at most this many turns in the original length are slowed down by the factor. Default: 1.</summary>
    public double BetaSlow { get; init; } = 1;

    /// <summary>Whether the limits between both are rounded to whole pairs. Default: true.</summary>
    public bool Truncate { get; init; } = true;

    /// <summary>What rotated queries and keys are multiplied by. Default: 0.1 ln(Factor) + 1, and 1 if the factor is at most 1.</summary>
    public double? AttentionFactor { get; init; }

    internal override double Amplitude => AttentionFactor ?? (Factor <= 1 ? 1 : (0.1 * Math.Log(Factor)) + 1);

    internal override double[] Frequencies(double theta, long width, long inView)
    {
        var (low, high) = (PairWithTurns(BetaFast), PairWithTurns(BetaSlow));
        (low, high) = Truncate ? (Math.Floor(low), Math.Ceiling(high)) : (low, high);
        (low, high) = (Math.Max(low, 0), Math.Min(high, width - 1));
        high = low == high ? high + 0.001 : high;
        return [.. Plain(theta, width).Select((frequency, i) =>
        {
            var slowed = Math.Clamp((i - low) / (high - low), 0, 1);
            return (slowed * frequency / Factor) + ((1 - slowed) * frequency);
        })];

        // The index, not rounded, of the pair that makes so many turns in the original length.
        double PairWithTurns(double turns) => width * Math.Log(OriginalLength / (turns * 2 * Math.PI)) / (2 * Math.Log(theta));
    }

    internal override void Validate(long pairs)
    {
        OptionChecks.Positive(Factor, nameof(Factor));
        OptionChecks.AtLeastOne(OriginalLength, nameof(OriginalLength));
        OptionChecks.Positive(BetaSlow, nameof(BetaSlow));
        OptionChecks.Require(BetaFast >= BetaSlow && double.IsFinite(BetaFast), nameof(BetaFast), BetaFast, $"a finite number of at least BetaSlow ({BetaSlow})");
        OptionChecks.Positive(AttentionFactor, nameof(AttentionFactor));
    }
}

/// <summary>
/// The scaling of LongRoPE (Ding et al., arXiv 2402.13753; <c>longrope</c>): each frequency divided by a factor of its own, from one list for inputs up to the original
/// length and from another for longer ones. A layer uses the list for the number of tokens that its local attention sees: LocalSegments times N.
/// </summary>
/// <param name="ShortFactors">One factor for each rotated pair, for up to <paramref name="OriginalLength"/> tokens (<c>short_factor</c>).</param>
/// <param name="LongFactors">One factor for each rotated pair, for more tokens (<c>long_factor</c>).</param>
/// <param name="OriginalLength">The tokens of context that the model was trained with first (<c>original_max_position_embeddings</c>).</param>
/// <param name="Factor">How many times as long the extended context is (<c>max_position_embeddings</c> over the original length).</param>
public sealed record LongRotaryScaling(IReadOnlyList<double> ShortFactors, IReadOnlyList<double> LongFactors, long OriginalLength, double Factor) : RotaryScaling
{
    /// <summary>What rotated queries and keys are multiplied by. Default: sqrt(1 + ln(Factor) / ln(OriginalLength)), and 1 if the factor is at most 1.</summary>
    public double? AttentionFactor { get; init; }

    internal override double Amplitude => AttentionFactor ?? (Factor <= 1 ? 1 : Math.Sqrt(1 + (Math.Log(Factor) / Math.Log(OriginalLength))));

    internal override double[] Frequencies(double theta, long width, long inView)
    {
        var factors = inView > OriginalLength ? LongFactors : ShortFactors;
        return [.. Plain(theta, width).Select((frequency, i) => frequency / factors[i])];
    }

    internal override void Validate(long pairs)
    {
        OptionChecks.OnePerPair(ShortFactors, nameof(ShortFactors), pairs);
        OptionChecks.OnePerPair(LongFactors, nameof(LongFactors), pairs);
        OptionChecks.Require(OriginalLength >= 2, nameof(OriginalLength), OriginalLength, "an integer of at least 2");
        OptionChecks.Positive(Factor, nameof(Factor));
        OptionChecks.Positive(AttentionFactor, nameof(AttentionFactor));
    }
}

/// <summary>Frequencies given outright, in place of those that follow from Theta.</summary>
/// <param name="PerPair">The angle of one token, in radians, for each rotated pair (<c>inv_freq</c>).</param>
/// <param name="AttentionFactor">What rotated queries and keys are multiplied by.</param>
public sealed record GivenRotaryFrequencies(IReadOnlyList<double> PerPair, double AttentionFactor = 1) : RotaryScaling
{
    internal override double Amplitude => AttentionFactor;

    internal override double[] Frequencies(double theta, long width, long inView) => [.. PerPair];

    internal override void Validate(long pairs)
    {
        OptionChecks.OnePerPair(PerPair, nameof(PerPair), pairs);
        OptionChecks.Positive(AttentionFactor, nameof(AttentionFactor));
    }
}
