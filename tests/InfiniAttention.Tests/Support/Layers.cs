using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Helpers for layers and token info.</summary>
internal static class Layers
{
    /// <summary>A float64 layer holding copies of the given weights.</summary>
    public static InfiniAttentionModule With(InfiniAttentionOptions options, IReadOnlyDictionary<string, Tensor> weights)
    {
        var layer = new InfiniAttentionModule(options, dtype: ScalarType.Float64);
        layer.load_state_dict(weights.ToDictionary(w => w.Key, w => w.Value));
        return layer;
    }

    /// <summary>Norms of the memory's path with random parameters.</summary>
    public static NormScales Norm(Draw draw, int keyHeads, int group, int valueWidth, ScalarType type)
    {
        NormScales norm = new MemoryNorm((long)keyHeads * group, keyHeads, valueWidth, type, null).In(type);
        norm.QueryScale.copy_(draw.Normal(3, (long)keyHeads * group));
        norm.KeyScale.copy_(draw.Normal(3, keyHeads));
        norm.ReadWeight.copy_(draw.Normal(1, (long)keyHeads * group, valueWidth));
        return norm;
    }

    /// <summary>The info of <paramref name="length"/> tokens from <paramref name="start"/> on.</summary>
    public static TokenInfo? Part(this TokenInfo? info, long start, long length) => info?.Map(tensor => tensor.narrow(1, start, length));

    public static TokenInfo? Rows(this TokenInfo? info, Tensor rows) => info?.Map(tensor => tensor.index_select(0, rows));

    private static TokenInfo Map(this TokenInfo info, Func<Tensor, Tensor> map) => new()
    {
        KeyPaddingMask = info.KeyPaddingMask is { } padding ? map(padding) : null,
        DocumentStarts = info.DocumentStarts is { } starts ? map(starts) : null,
        WriteWeights = info.WriteWeights is { } weights ? map(weights) : null,
    };
}
