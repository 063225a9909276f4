using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

internal enum Bound
{
    AtMost,
    AtLeast,

    /// <summary>Shown for information; nothing is promised.</summary>
    None,
}

/// <summary>A promise about speed or memory, as a ratio of two measurements of one run.</summary>
/// <param name="Name">Its name on the command line.</param>
/// <param name="What">The ratio in words.</param>
/// <param name="Bound">Whether the limit is an upper or a lower bound, or none.</param>
/// <param name="Limit">The limit.</param>
/// <param name="Measure">Takes the measurement.</param>
internal sealed record Target(string Name, string What, Bound Bound, double Limit, Func<Setting, Comparison> Measure)
{
    /// <summary>Whether the median meets the limit.</summary>
    public bool IsMet(double median) => Bound switch
    {
        Bound.AtMost => median <= Limit,
        Bound.AtLeast => median >= Limit,
        _ => true,
    };

    public string LimitText => Bound switch
    {
        Bound.AtMost => $"<= {Limit}",
        Bound.AtLeast => $">= {Limit}",
        _ => "",
    };
}

/// <summary>Where, how long and how thoroughly targets are measured.</summary>
/// <param name="Device">Where.</param>
/// <param name="DeviceName">As on the command line.</param>
/// <param name="Clock">Times work on the device.</param>
/// <param name="IsQuick">Whether lengths and rounds are reduced to what gives an impression in a few minutes.</param>
internal sealed record Setting(Device Device, string DeviceName, Stopclock Clock, bool IsQuick)
{
    public const long Kilo = 1024;

    /// <summary>The full length, or the shorter one for a quick look.</summary>
    public long Tokens(long full, long quick) => IsQuick ? quick : full;

    /// <summary>A layer in evaluation mode and an input of one row for it.</summary>
    public (InfiniAttentionModule Layer, Tensor X) LayerAndInput(long tokens, LayerShape shape, Func<InfiniAttentionOptions, InfiniAttentionOptions>? change = null)
    {
        manual_seed(0);
        var layer = new InfiniAttentionModule(change?.Invoke(shape.Options) ?? shape.Options, Device);
        layer.eval();
        return (layer, randn([1, tokens, shape.Width], device: Device));
    }
}

/// <summary>D, H and N of a layer.</summary>
internal readonly record struct LayerShape(long Width, long Heads, long SegmentLength)
{
    /// <summary>The shapes of the targets: long segments here, short ones below.</summary>
    public static readonly LayerShape Long = new(512, 8, 2048);
    public static readonly LayerShape Short = new(256, 4, 128);

    public InfiniAttentionOptions Options => new() { EmbedDim = Width, NumHeads = Heads, SegmentLength = SegmentLength };
}
