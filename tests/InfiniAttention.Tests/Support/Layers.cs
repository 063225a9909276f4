using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Small helpers around layers and what is told of their tokens.</summary>
internal static class Layers
{
    /// <summary>A float64 layer holding copies of the given weights.</summary>
    public static InfiniAttentionModule With(InfiniAttentionOptions options, IReadOnlyDictionary<string, Tensor> weights)
    {
        var layer = new InfiniAttentionModule(options, dtype: ScalarType.Float64);
        layer.load_state_dict(weights.ToDictionary(w => w.Key, w => w.Value));
        return layer;
    }

    /// <summary>Norms of a memory's path with random numbers.</summary>
    public static NormScales Norm(Draw draw, int keyHeads, int group, int valueWidth, ScalarType type)
    {
        NormScales norm = new MemoryNorm((long)keyHeads * group, keyHeads, valueWidth, type, null).In(type);
        norm.QueryScale.copy_(draw.Normal(3, (long)keyHeads * group));
        norm.KeyScale.copy_(draw.Normal(3, keyHeads));
        norm.ReadWeight.copy_(draw.Normal(1, (long)keyHeads * group, valueWidth));
        return norm;
    }

    /// <summary>What is known of the tokens from start on.</summary>
    public static TokenInfo? Part(this TokenInfo? info, long start, long length) => info is null ? null : new TokenInfo { KeyPaddingMask = info.KeyPaddingMask?.narrow(1, start, length), DocumentStarts = info.DocumentStarts?.narrow(1, start, length), WriteWeights = info.WriteWeights?.narrow(1, start, length) };

    public static TokenInfo? Rows(this TokenInfo? info, Tensor rows) => info is null ? null : new TokenInfo { KeyPaddingMask = info.KeyPaddingMask?.index_select(0, rows), DocumentStarts = info.DocumentStarts?.index_select(0, rows), WriteWeights = info.WriteWeights?.index_select(0, rows) };
}
