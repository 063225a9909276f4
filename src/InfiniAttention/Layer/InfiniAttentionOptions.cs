using static InfiniAttention.OptionChecks;

namespace InfiniAttention;

/// <summary>The shape and the rules of an <see cref="InfiniAttentionModule"/>.</summary>
public sealed record InfiniAttentionOptions
{
    /// <summary>Model width D: width of input and output.</summary>
    public required long EmbedDim { get; init; }

    /// <summary>Number of query heads H.</summary>
    public required long NumHeads { get; init; }

    /// <summary>Segment length N in tokens: the window of the local attention.</summary>
    public required long SegmentLength { get; init; }

    /// <summary>Number of key/value heads G, each with its own memory; divides H. Default: H.</summary>
    public long? NumKeyValueHeads { get; init; }

    /// <summary>Width K of a query or key head. Default: D / H.</summary>
    public long? HeadDim { get; init; }

    /// <summary>Width V of a value head. Default: K.</summary>
    public long? ValueHeadDim { get; init; }

    /// <summary>How segments are written to the memory. Default: <see cref="MemoryUpdate.Linear"/>.</summary>
    public MemoryUpdate Update { get; init; }

    /// <summary>The normaliser of the delta rule's subtraction. Default: <see cref="DeltaNormalizer.BeforeSegment"/>, the paper's.</summary>
    public DeltaNormalizer DeltaNormalizer { get; init; }

    /// <summary>What a row outputs while its memory is empty. Default: <see cref="EmptyMemory.LocalOnly"/>.</summary>
    public EmptyMemory EmptyMemory { get; init; }

    /// <summary>
    /// Beyond the paper: whether the memory's queries and keys are normalised with a learned scale for each head before sigma, and what is read from it is
    /// normalised before the gate. A model that is trained with it recalls facts of earlier segments (docs/equations.md, docs/training.md). Default: false.
    /// </summary>
    public bool MemoryNorm { get; init; }

    /// <summary>
    /// Beyond the paper: whether the memory has its own projections of queries and keys, without bias, instead of those of the local
    /// attention; values stay shared. It gained nothing over three seeds (docs/training.md). Default: false.
    /// </summary>
    public bool OwnMemoryProjections { get; init; }

    /// <summary>
    /// How many segments the local attention sees: 1, as in the paper, or 2 (beyond the paper): each token then also sees the whole segment before its own, at
    /// its true distance. The state then holds that segment's keys and values too. Default: 1.
    /// </summary>
    public long LocalSegments { get; init; } = 1;

    /// <summary>Rotary embedding of the local attention; null for none. The number of elements it rotates must be even.</summary>
    public RotaryOptions? Rotary { get; init; }

    /// <summary>
    /// Whether queries and keys are divided by their root mean square and multiplied by a learned weight, before the rotation, head by head (Qwen 3): parameters
    /// <c>q_norm.weight</c> and <c>k_norm.weight</c>, (K) each. The memory uses the same queries and keys, unless it has its own projections. Default: false.
    /// </summary>
    public bool QueryKeyNorm { get; init; }

    /// <summary>What <see cref="QueryKeyNorm"/> adds to the mean square, greater than 0. Default: 1e-6.</summary>
    public double QueryKeyNormEpsilon { get; init; } = 1e-6;

    /// <summary>Whether the four projections have biases. Default: false.</summary>
    public bool Bias { get; init; }

    /// <summary>Whether the projection of queries has a bias. Default: as <see cref="Bias"/> says.</summary>
    public bool? QueryBias { get; init; }

    /// <summary>Whether the projection of keys has a bias. Default: as <see cref="Bias"/> says.</summary>
    public bool? KeyBias { get; init; }

    /// <summary>Whether the projection of values has a bias. Default: as <see cref="Bias"/> says.</summary>
    public bool? ValueBias { get; init; }

    /// <summary>Whether the projection of the output has a bias. Default: as <see cref="Bias"/> says.</summary>
    public bool? OutputBias { get; init; }

    /// <summary>Probability, in [0, 1), of dropping a local attention weight in training. Default: 0.</summary>
    public double Dropout { get; init; }

    /// <summary>Initial beta of every head's gate; the memory's share is sigmoid(beta). Default: 0, half and half.</summary>
    public double GateInit { get; init; }

    /// <summary>Initial beta of each head's gate, H numbers, instead of <see cref="GateInit"/>; null to use that for all heads.</summary>
    public IReadOnlyList<double>? GateInitPerHead { get; init; }

    /// <summary>
    /// Whether gradients of gradients are needed (for a gradient penalty, for example). The local attention then runs without libtorch's fused
    /// operator, whose gradient cannot be differentiated: slower, and with memory for N scores per token. Default: false.
    /// </summary>
    public bool SecondDerivatives { get; init; }

    /// <summary>
    /// Tokens, counted over all rows, that are processed at once, but at least one segment of every row. It bounds temporary
    /// memory and changes no result. Default: chosen by the device, see docs/performance.md.
    /// </summary>
    public long? BlockTokens { get; init; }

    internal long KeyValueHeads => NumKeyValueHeads ?? NumHeads;

    internal long KeyWidth => HeadDim ?? EmbedDim / NumHeads;

    internal long ValueWidth => ValueHeadDim ?? KeyWidth;

    /// <summary>How many elements of a head the rotary embedding rotates.</summary>
    internal long RotaryWidth => Rotary is { } rotary ? rotary.Width ?? KeyWidth : 0;

    /// <summary>Whether queries, keys, values and the output have a bias.</summary>
    internal (bool Query, bool Key, bool Value, bool Output) Biases => (QueryBias ?? Bias, KeyBias ?? Bias, ValueBias ?? Bias, OutputBias ?? Bias);

    /// <summary>Whether queries, keys and values have a bias, if all of them or none of them has one; null otherwise.</summary>
    internal bool? InputBias => Biases.Query == Biases.Key && Biases.Key == Biases.Value ? Biases.Query : null;

    /// <summary>Whether the local attention uses other keys than the memory.</summary>
    internal bool HasOtherLocalKeys => Rotary is not null || OwnMemoryProjections;

    /// <summary>Whether the next segment's queries see other keys of a segment than its own queries do.</summary>
    internal bool HasOtherPassedKeys => Rotary is not null && LocalSegments > 1;

    internal long QueriesPerKey => NumHeads / KeyValueHeads;

    /// <summary>Throws an <see cref="ArgumentException"/> if the options are invalid.</summary>
    internal void Validate()
    {
        AtLeastOne(EmbedDim, nameof(EmbedDim));
        AtLeastOne(NumHeads, nameof(NumHeads));
        AtLeastOne(SegmentLength, nameof(SegmentLength));
        AtLeastOne(NumKeyValueHeads, nameof(NumKeyValueHeads));
        AtLeastOne(HeadDim, nameof(HeadDim));
        AtLeastOne(ValueHeadDim, nameof(ValueHeadDim));
        AtLeastOne(BlockTokens, nameof(BlockTokens));
        Require(NumHeads % KeyValueHeads == 0, nameof(NumKeyValueHeads), KeyValueHeads, $"a divisor of NumHeads ({NumHeads})");
        Require(HeadDim is not null || EmbedDim % NumHeads == 0, nameof(NumHeads), NumHeads,
            $"a divisor of EmbedDim ({EmbedDim}), unless HeadDim is given");
        Require(LocalSegments is 1 or 2, nameof(LocalSegments), LocalSegments, "1 or 2");
        Require(Enum.IsDefined(Update), nameof(Update), Update, "Linear or Delta");
        Require(Enum.IsDefined(DeltaNormalizer), nameof(DeltaNormalizer), DeltaNormalizer, "BeforeSegment or AfterSegment");
        Require(Enum.IsDefined(EmptyMemory), nameof(EmptyMemory), EmptyMemory, "LocalOnly or Gated");
        Require(Dropout is >= 0 and < 1, nameof(Dropout), Dropout, "a probability of at least 0 and less than 1");
        Require(double.IsFinite(GateInit), nameof(GateInit), GateInit, "a finite number");
        Require(GateInitPerHead is null || (GateInitPerHead.Count == NumHeads && GateInitPerHead.All(double.IsFinite)), nameof(GateInitPerHead),
            GateInitPerHead is null ? null : $"[{string.Join(", ", GateInitPerHead)}]", $"one finite number for each of the {NumHeads} heads");
        Rotary?.Validate(KeyWidth);
        Positive(QueryKeyNormEpsilon, nameof(QueryKeyNormEpsilon));
    }
}
