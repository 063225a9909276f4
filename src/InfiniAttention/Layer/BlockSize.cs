using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>How many segments the layer processes at once, unless the options say.</summary>
/// <remarks>
/// On a CPU a block's temporaries should stay near the cache; on a GPU the number of launches costs, and memory is the
/// limit. Measured in docs/performance.md.
/// </remarks>
internal static class BlockSize
{
    private const long CpuElements = 1 << 18;
    private const long LeastCpuTokens = 1024;
    private const long MostCpuTokens = 4096;
    private const long CpuWindow = 4096;
    private const long GpuTokens = 65536;

    public static long Segments(InfiniAttentionOptions options, Tensor x)
    {
        var tokens = options.BlockTokens ?? (x.device_type == DeviceType.CPU ? Math.Clamp(CpuElements / options.EmbedDim, LeastCpuTokens, MostCpuTokens) : GpuTokens);
        return Math.Max(1, tokens / (x.size(0) * options.SegmentLength));
    }

    /// <summary>Tokens that a stream passes through a whole model at once: whole segments if all layers have the same segment length.</summary>
    public static long Window(long[] segmentLengths, Device device)
    {
        var tokens = device.type == DeviceType.CPU ? CpuWindow : GpuTokens;
        var longest = segmentLengths.Max();
        return Array.TrueForAll(segmentLengths, length => length == longest) ? longest * Math.Max(1, tokens / longest) : Math.Max(tokens, longest);
    }
}
