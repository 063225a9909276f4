using InfiniAttention;

namespace LongContext.Models;

/// <summary>Rotary positions as a Hugging Face configuration says them: <c>rope_theta</c> with <c>rope_scaling</c>, or both in <c>rope_parameters</c>.</summary>
internal static class RotaryEntry
{
    public static RotaryOptions Read(ConfigEntries config, long headWidth, long length)
    {
        var theta = config.Number("rope_theta", 10000);
        var width = (long)(headWidth * config.Number("partial_rotary_factor", 1));
        var original = config.Has("original_max_position_embeddings") ? config.Integer("original_max_position_embeddings") : (long?)null;
        var rotary = new RotaryOptions(theta, Width: width == headWidth ? null : width);
        var place = config.Has("rope_parameters") ? "rope_parameters" : "rope_scaling";
        if (!config.Has(place))
        {
            return rotary;
        }

        var entries = config.Object(place);
        var type = entries.Text(entries.Has("rope_type") ? "rope_type" : "type");
        entries.Ignore("rope_type", "type"); // both are written by some versions
        rotary = rotary with
        {
            Theta = entries.Number("rope_theta", theta),
            Scaling = type switch
            {
                "default" => null,
                "linear" => new LinearRotaryScaling(entries.Number("factor")),
                "llama3" => new Llama3RotaryScaling(
                    entries.Number("factor"), entries.Integer("original_max_position_embeddings"), entries.Number("low_freq_factor"), entries.Number("high_freq_factor")),
                "yarn" => Yarn(entries, length),
                "longrope" or "su" => LongRope(entries, original, length),
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
        return new(factor, entries.Integer("original_max_position_embeddings", length))
        {
            BetaFast = entries.Number("beta_fast", 32),
            BetaSlow = entries.Number("beta_slow", 1),
            Truncate = entries.Flag("truncate", true),
            AttentionFactor = entries.NumberOrNull("attention_factor") ?? (mscale != 0 && ofAll != 0 ? Scale(mscale) / Scale(ofAll) : null),
        };

        double Scale(double by) => factor <= 1 ? 1 : (0.1 * by * Math.Log(factor)) + 1;
    }

    private static LongRotaryScaling LongRope(ConfigEntries entries, long? original, long length)
    {
        original ??= entries.Has("original_max_position_embeddings") ? entries.Integer("original_max_position_embeddings") : null;
        entries.Ignore("original_max_position_embeddings");
        var factor = entries.NumberOrNull("factor");
        return new(entries.Numbers("short_factor"), entries.Numbers("long_factor"), original ?? length, original is { } before ? (double)length / before : factor ?? entries.Number("factor"))
        {
            AttentionFactor = entries.NumberOrNull("attention_factor"),
        };
    }
}
