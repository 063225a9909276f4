using InfiniAttention;

namespace LongContext.Models;

/// <summary>What a checkpoint says of its decoder, whatever its family calls it.</summary>
public sealed record DecoderConfig
{
    /// <summary>The family, for messages.</summary>
    public required string Family { get; init; }
    public required long Vocabulary { get; init; }
    public required long Width { get; init; }
    public required int Layers { get; init; }
    public required long Heads { get; init; }
    public required long KeyValueHeads { get; init; }
    public required long HeadWidth { get; init; }
    public required long MlpWidth { get; init; }

    /// <summary>The longest input that the model was made for, in tokens.</summary>
    public required long Length { get; init; }
    public required double NormEpsilon { get; init; }
    public Activation Activation { get; init; } = Activation.Silu;

    /// <summary>Whether the MLP has a gate, as in SwiGLU.</summary>
    public bool IsMlpGated { get; init; } = true;

    /// <summary>Whether norms subtract the mean and have a bias.</summary>
    public bool IsLayerNorm { get; init; }

    /// <summary>Rotary positions; null if positions are learned.</summary>
    public RotaryOptions? Rotary { get; init; }
    public bool InputBias { get; init; }
    public bool OutputBias { get; init; }
    public bool MlpBias { get; init; }
    public bool QueryKeyNorm { get; init; }

    /// <summary>Whether the head is the embedding.</summary>
    public bool IsTied { get; init; }

    /// <summary>How many tokens each token sees, itself included, in layers with a sliding window; null if no layer has one.</summary>
    public long? SlidingWindow { get; init; }

    /// <summary>The deviation of the matrices of a new model.</summary>
    public double InitializerRange { get; init; } = 0.02;

    /// <summary>Tokens that end a text.</summary>
    public IReadOnlyList<long> EndTokens { get; init; } = [];

    /// <summary>The small models that the program trains from nothing: RMS norms, rotary positions, an MLP of twice the width without a gate.</summary>
    /// <param name="vocabulary">How many tokens there are.</param>
    /// <param name="width">D</param>
    /// <param name="layers">How many layers.</param>
    /// <param name="heads">H</param>
    /// <param name="headWidth">K</param>
    /// <param name="segment">N</param>
    public static DecoderConfig Small(long vocabulary, long width, int layers, long heads, long headWidth, long segment) => new()
    {
        Family = "this program's",
        Vocabulary = vocabulary,
        Width = width,
        Layers = layers,
        Heads = heads,
        KeyValueHeads = heads,
        HeadWidth = headWidth,
        MlpWidth = 2 * width,
        Length = segment,
        NormEpsilon = 1e-6,
        Activation = Activation.Gelu,
        IsMlpGated = false,
        MlpBias = true,
        Rotary = new(),
    };

    /// <summary>The options of each layer's attention.</summary>
    /// <exception cref="InputException">A segment is longer than what the model's tokens can see.</exception>
    public InfiniAttentionOptions Attention(ConversionOptions options)
    {
        var segment = options.SegmentLength ?? Math.Min(Math.Min(Length, SlidingWindow ?? Length) / options.Memory.LocalSegments, ConversionOptions.LongestDefaultSegment);
        var inView = segment * options.Memory.LocalSegments;
        if (SlidingWindow is { } window && inView > window)
        {
            throw new InputException($"The model's sliding_window is {window}, so a segment of {segment} tokens, with {inView} in view, would attend to tokens that the model does not.");
        }

        if (Rotary is null && segment > Length)
        {
            throw new InputException($"The model has learned positions for {Length} tokens, so its segments cannot have {segment}.");
        }

        return options.Memory.Apply(new InfiniAttentionOptions
        {
            EmbedDim = Width,
            NumHeads = Heads,
            NumKeyValueHeads = KeyValueHeads,
            HeadDim = HeadWidth,
            SegmentLength = segment,
            Update = options.Update,
            Rotary = Rotary,
            Bias = InputBias,
            OutputBias = OutputBias,
            QueryKeyNorm = QueryKeyNorm,
            QueryKeyNormEpsilon = NormEpsilon,
            GateInit = options.GateInit,
        });
    }
}

/// <summary>What the checkpoint does not say: how its attention becomes Infini-attention.</summary>
public sealed record ConversionOptions
{
    public const long LongestDefaultSegment = 2048;

    /// <summary>N; null for what the model sees, but at most <see cref="LongestDefaultSegment"/>.</summary>
    public long? SegmentLength { get; init; }
    public MemoryUpdate Update { get; init; }
    public MemoryVariant Memory { get; init; } = MemoryVariant.Paper;

    /// <summary>The gates at first, nearly closed: a memory that the model has not learned to read says little.</summary>
    public double GateInit { get; init; } = -4;
}

/// <summary>The non-linearity of an MLP.</summary>
public enum Activation
{
    Silu,

    /// <summary>x Phi(x)</summary>
    Gelu,

    /// <summary>Its approximation by a hyperbolic tangent.</summary>
    GeluTanh,
}
