using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The segment before the open one, as the open one's queries see it.</summary>
/// <remarks>B batch, N tokens, G key/value heads, K key width, V value width.</remarks>
internal sealed class EarlierSegment : SharedTensors
{
    /// <param name="keys">(B, 1, N, G, K)</param>
    /// <param name="values">(B, 1, N, G, V)</param>
    /// <param name="hidden">(B, 1, N) bool, true for a token that is hidden and whose key and value are 0; null if none is.</param>
    public EarlierSegment(Tensor keys, Tensor values, Tensor? hidden)
    {
        (Keys, Values, Hidden) = (keys, values, hidden);
        foreach (var tensor in Tensors)
        {
            tensor.DetachFromDisposeScope();
        }
    }

    public Tensor Keys { get; }

    public Tensor Values { get; }

    public Tensor? Hidden { get; }

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Tensors => Hidden is null ? [Keys, Values] : [Keys, Values, Hidden];

    /// <summary>A copy of the last of S whole segments.</summary>
    public static EarlierSegment LastOf(SegmentTokens tokens)
    {
        using var scope = NewDisposeScope();
        var (keys, values, hidden) = tokens.Passed;
        using var normal = new NormalTensors();
        return new(Last(keys), Last(values), hidden is null ? null : Last(hidden));

        static Tensor Last(Tensor perSegment) => perSegment.narrow(1, perSegment.size(1) - 1, 1).clone();
    }

    /// <summary>Applies <paramref name="map"/> to each tensor, whose first dimension is that of the rows.</summary>
    public EarlierSegment Map(Func<Tensor, Tensor> map) => new(map(Keys), map(Values), Hidden is null ? null : map(Hidden));

    /// <summary>Keys and values in another type.</summary>
    public EarlierSegment To(ScalarType type) => new(Keys.to(type, copy: true), Values.to(type, copy: true), Hidden?.clone());

    /// <summary>The segment hidden from the given rows, (B) bool.</summary>
    public EarlierSegment Forget(Tensor rows)
    {
        var forgotten = rows.view(-1, 1, 1).expand(rows.size(0), 1, Keys.size(2));
        return new(Cleared(Keys), Cleared(Values), Hidden is null ? forgotten.clone() : Hidden.logical_or(forgotten));

        Tensor Cleared(Tensor heads) => heads.masked_fill(rows.view(-1, 1, 1, 1, 1), Scalars.Zero);
    }
}
