namespace InfiniAttention.Tests.Oracle;

/// <summary>Rotary frequencies and the attention factor, step by step in the order of modeling_rope_utils.py of Hugging Face's transformers.</summary>
internal static class OracleRotary
{
    public static (double[] Frequencies, double AttentionFactor) Of(RotaryOptions rotary, int dim, long sequenceLength)
    {
        double[] plain = new double[dim / 2];
        for (int i = 0; i < dim / 2; i++)
        {
            plain[i] = 1.0 / Math.Pow(rotary.Theta, 2.0 * i / dim);
        }

        return rotary.Scaling switch
        {
            null => (plain, 1),
            LinearRotaryScaling linear => ([.. plain.Select(f => f / linear.Factor)], 1),
            Llama3RotaryScaling llama => (Llama3(llama, plain), 1),
            YarnRotaryScaling yarn => Yarn(yarn, rotary.Theta, dim),
            LongRotaryScaling longRope => Long(longRope, rotary.Theta, dim, sequenceLength),
            GivenRotaryFrequencies given => ([.. given.PerPair], given.AttentionFactor),
            _ => throw new NotSupportedException(),
        };
    }

    private static double[] Llama3(Llama3RotaryScaling scaling, double[] plain)
    {
        double lowWavelength = scaling.OriginalLength / scaling.LowFrequencyFactor, highWavelength = scaling.OriginalLength / scaling.HighFrequencyFactor;
        double[] scaled = new double[plain.Length];
        for (int i = 0; i < plain.Length; i++)
        {
            double wavelength = 2 * Math.PI / plain[i];
            if (wavelength < highWavelength)
            {
                scaled[i] = plain[i];
            }
            else if (wavelength > lowWavelength)
            {
                scaled[i] = plain[i] / scaling.Factor;
            }
            else
            {
                double smooth = (scaling.OriginalLength / wavelength - scaling.LowFrequencyFactor) / (scaling.HighFrequencyFactor - scaling.LowFrequencyFactor);
                scaled[i] = (1 - smooth) * plain[i] / scaling.Factor + smooth * plain[i];
            }
        }

        return scaled;
    }

    private static (double[], double) Yarn(YarnRotaryScaling scaling, double theta, int dim)
    {
        double Dimension(double rotations) => dim * Math.Log(scaling.OriginalLength / (rotations * 2 * Math.PI)) / (2 * Math.Log(theta));

        double low = Dimension(scaling.BetaFast), high = Dimension(scaling.BetaSlow);
        if (scaling.Truncate)
        {
            (low, high) = (Math.Floor(low), Math.Ceiling(high));
        }

        (low, high) = (Math.Max(low, 0), Math.Min(high, dim - 1));
        if (low == high)
        {
            high += 0.001;
        }

        double[] scaled = new double[dim / 2];
        for (int i = 0; i < dim / 2; i++)
        {
            double power = Math.Pow(theta, 2.0 * i / dim);
            double extrapolation = 1.0 / power, interpolation = 1.0 / (scaling.Factor * power);
            double extrapolationFactor = 1 - Math.Max(0, Math.Min(1, (i - low) / (high - low)));
            scaled[i] = interpolation * (1 - extrapolationFactor) + extrapolation * extrapolationFactor;
        }

        double attention = scaling.AttentionFactor ?? (scaling.Factor <= 1 ? 1.0 : 0.1 * 1 * Math.Log(scaling.Factor) + 1.0);
        return (scaled, attention);
    }

    private static (double[], double) Long(LongRotaryScaling scaling, double theta, int dim, long sequenceLength)
    {
        IReadOnlyList<double> factors = sequenceLength > scaling.OriginalLength ? scaling.LongFactors : scaling.ShortFactors;
        double[] scaled = new double[dim / 2];
        for (int i = 0; i < dim / 2; i++)
        {
            scaled[i] = 1.0 / (factors[i] * Math.Pow(theta, 2.0 * i / dim));
        }

        double attention = scaling.AttentionFactor ?? (scaling.Factor <= 1 ? 1.0 : Math.Sqrt(1 + Math.Log(scaling.Factor) / Math.Log(scaling.OriginalLength)));
        return (scaled, attention);
    }
}
