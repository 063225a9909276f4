using InfiniAttention;

namespace LongContext.Adapt;

/// <summary>How the plain model is trained, converted and continued.</summary>
public sealed record AdaptSettings
{
    public MemoryUpdate Rule { get; init; }
    public int Seed { get; init; } = 1;
    public MemoryVariant Memory { get; init; } = MemoryVariant.Paper;

    /// <summary>Whether the write weights of filler are multiplied in some of the inputs. The paper does not do this.</summary>
    public bool WeighsFiller { get; init; } = true;

    /// <summary>The length on which the plain model is trained, and the segment length of the converted one.</summary>
    public int Window { get; init; } = 64;

    public int PlainSteps { get; init; } = 500;
    public int ContinuedSteps { get; init; } = 900;

    /// <summary>The longest input in the continuation, in segments.</summary>
    public int LongestSegments { get; init; } = 16;

    /// <summary>Tokens in a training step.</summary>
    public int BatchTokens { get; init; } = 4096;

    /// <summary>
    /// beta of each head after the conversion. The heads of the first layer start nearly closed, and half of those of the last layer open. If all
    /// start at 0, the first layer passes a blurred past to the second before the second has learnt to tell it from the present.
    /// </summary>
    public double[] InitialGates(int layer) =>
        [.. Enumerable.Range(0, (int)PlainDecoder.Config.Heads).Select(head => layer < PlainDecoder.Config.Layers - 1 ? -4.0 : head % 2 == 0 ? -2 : 2)];
}
