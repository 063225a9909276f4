using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Keys, values and marks of the tokens of S segments.</summary>
/// <remarks>B batch, S segments, L tokens of each so far, G key/value heads, K key width, V value width.</remarks>
/// <param name="Keys">As the memory sees them, without position: (B, S, L, G, K)</param>
/// <param name="Values">(B, S, L, G, V)</param>
/// <param name="Marks">What is known about the tokens.</param>
internal sealed record SegmentTokens(Tensor Keys, Tensor Values, SegmentMarks Marks)
{
    /// <summary>The keys as their own segment's queries see them, (B, S, L, G, K); null if they are <see cref="Keys"/>.</summary>
    public Tensor? OtherLocalKeys { get; init; }

    /// <summary>The keys as the next segment's queries see them, one segment further back, (B, S, L, G, K); null if they are <see cref="LocalKeys"/>.</summary>
    public Tensor? OtherPassedKeys { get; init; }

    /// <summary>The segment before the first of these, if the local attention sees it.</summary>
    public EarlierSegment? Earlier { get; init; }

    /// <summary>The keys as their own segment's queries see them, (B, S, L, G, K)</summary>
    public Tensor LocalKeys => OtherLocalKeys ?? Keys;

    /// <summary>L</summary>
    public long Length => Keys.size(2);

    /// <summary>Keys and values, each tensor once.</summary>
    public IEnumerable<Tensor> Heads => new[] { Keys, OtherLocalKeys, OtherPassedKeys, Values }.OfType<Tensor>();

    /// <summary>The tokens as the next segment's queries see them: keys, values, and (B, S, L) bool, true for a token that is hidden from them, whose key and value are 0.</summary>
    public (Tensor Keys, Tensor Values, Tensor? Hidden) Passed
    {
        get
        {
            var keys = OtherPassedKeys ?? LocalKeys;
            return Marks.HiddenFromNext() is { } hidden ? (Cleared(keys), Cleared(Values), hidden) : (keys, Values, null);

            Tensor Cleared(Tensor heads) => heads.masked_fill(hidden.unsqueeze(-1).unsqueeze(-1), Scalars.Zero);
        }
    }

    /// <summary>What the local attention sees: these tokens, preceded by those of the segment before, if there is one.</summary>
    /// <returns>Tokens of which only <see cref="LocalKeys"/>, <see cref="Values"/> and <see cref="Marks"/> are meaningful.</returns>
    public SegmentTokens InView()
    {
        if (Earlier is not { } earlier)
        {
            return this;
        }

        var (keys, values, hidden) = (earlier.Keys, earlier.Values, earlier.Hidden);
        var following = Keys.size(1) - 1;
        if (following > 0)
        {
            var passed = Passed;
            (keys, values) = (Each(keys, passed.Keys), Each(values, passed.Values));
            hidden = hidden is null && passed.Hidden is null ? null : Each(hidden ?? None(1), passed.Hidden ?? None(following + 1));
        }

        return new(cat([keys, LocalKeys], 2), cat([values, Values], 2), Marks.Behind(hidden, earlier.Keys.size(2), Length));

        Tensor Each(Tensor first, Tensor passed) => cat([first, passed.narrow(1, 0, following)], 1);

        Tensor None(long segments) => zeros([earlier.Keys.size(0), segments, earlier.Keys.size(2)], ScalarType.Bool, earlier.Keys.device);
    }

    /// <summary>Applies <paramref name="map"/> to the keys and values.</summary>
    public SegmentTokens Map(Func<Tensor, Tensor> map) => new(map(Keys), map(Values), Marks)
    {
        OtherLocalKeys = OtherLocalKeys is null ? null : map(OtherLocalKeys),
        OtherPassedKeys = OtherPassedKeys is null ? null : map(OtherPassedKeys),
    };

    /// <summary>Keys and values followed by those of further tokens, with the marks of both.</summary>
    public SegmentTokens Join(SegmentTokens next, SegmentMarks marks) => new(cat([Keys, next.Keys], 2), cat([Values, next.Values], 2), marks)
    {
        OtherLocalKeys = OtherLocalKeys is null ? null : cat([OtherLocalKeys, next.OtherLocalKeys!], 2),
        OtherPassedKeys = OtherPassedKeys is null ? null : cat([OtherPassedKeys, next.OtherPassedKeys!], 2),
    };
}
