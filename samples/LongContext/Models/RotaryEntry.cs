using InfiniAttention;

namespace LongContext.Models;

/// <summary>Rotary positions as a Hugging Face configuration says them: <c>rope_theta</c> with <c>rope_scaling</c>, or both in <c>rope_parameters</c>.</summary>
internal static class RotaryEntry
{
    private const string OriginalLength = "original_max_position_embeddings";

    /// <summary>Phi-3's original length, if its configuration does not say it.</summary>
    private const long OriginalLengthOfPhi3 = 4096;

    public static RotaryOptions Read(ConfigEntries config, long headWidth, long length, string family)
    {
        var (theta, share) = (config.Number("rope_theta", 10000), config.Number("partial_rotary_factor", 1));
        var original = config.Has(OriginalLength) ? config.Integer(OriginalLength) : (long?)null;
        var place = config.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
        if (!config.Has(place))
        {
            return new(theta, Width: Width(headWidth, share));
        }

        var entries = config.Object(place);
        var type = entries.Text(entries.Has("rope_type") ? "rope_type" : "type");
        entries.Ignore("rope_type", "type"); // both are written by some versions
        type = family == "phi3" && type == "yarn" ? "longrope" : type; // what Phi-3 called it at first
        var rotary = new RotaryOptions(entries.Number("rope_theta", theta), Width: Width(headWidth, entries.Number("partial_rotary_factor", share)))
        {
            Scaling = type switch
            {
                "default" => null,
                "linear" => new LinearRotaryScaling(entries.Number("factor")),
                "llama3" => new Llama3RotaryScaling(
                    entries.Number("factor"), entries.Integer(OriginalLength), entries.Number("low_freq_factor"), entries.Number("high_freq_factor")),
                "yarn" => Yarn(entries, length),
                "longrope" or "su" => LongRope(entries, original, family == "phi3" ? OriginalLengthOfPhi3 : null, length),
                _ => throw entries.Refuse(entries.Has("rope_type") ? "rope_type" : "type", "supported are default, linear, llama3, yarn and longrope"),
            },
        };
        entries.Finish();
        return rotary;
    }

    private static YarnRotaryScaling Yarn(ConfigEntries entries, long length)
    {
        var factor = entries.Number("factor");
        var (mscale, ofAll) = (entries.Number("mscale", 0), entries.Number("mscale_all_dim", 0));
        return new(factor, entries.Integer(OriginalLength, length))
        {
            BetaFast = entries.Number("beta_fast", 32),
            BetaSlow = entries.Number("beta_slow", 1),
            Truncate = entries.Flag("truncate", true),
            AttentionFactor = entries.NumberOrNull("attention_factor") ?? (mscale != 0 && ofAll != 0 ? Scale(mscale) / Scale(ofAll) : null),
        };

        double Scale(double by) => factor <= 1 ? 1 : (0.1 * by * Math.Log(factor)) + 1;
    }

    private static LongRotaryScaling LongRope(ConfigEntries entries, long? original, long? byDefault, long length)
    {
        original ??= entries.Has(OriginalLength) ? entries.Integer(OriginalLength) : byDefault;
        entries.Ignore(OriginalLength);
        var ratio = original is { } before ? (double)length / before : (double?)null;
        var factor = entries.NumberOrNull("factor");
        if (ratio is not null && factor is not null && factor != ratio)
        {
            throw entries.Refuse("factor", $"it is not {ratio}, max_position_embeddings over {OriginalLength}, and versions of transformers differ in which of both they use");
        }

        return new(entries.Numbers("short_factor"), entries.Numbers("long_factor"), original ?? length, ratio ?? entries.Number("factor"))
        {
            AttentionFactor = entries.NumberOrNull("attention_factor"),
        };
    }

    /// <summary>The rotated elements of a head; null for all.</summary>
    private static long? Width(long headWidth, double share)
    {
        var width = (long)(headWidth * share);
        return width == headWidth ? null : width;
    }
}
