using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Keys, values and marks of the tokens of S segments. The open segment of a stream (S = 1) sits in buffers that may be
/// longer than it is; nothing ever reads beyond <see cref="Length"/>, so that appending in place leaves earlier states valid.
/// </summary>
/// <remarks>B batch, S segments, G key/value heads, L tokens, C capacity, K key width, V value width.</remarks>
internal sealed class SegmentTokens
{
    private readonly Tensor keys;      // (B, S, G, C, K), as the memory sees them: without position
    private readonly Tensor localKeys; // (B, S, G, C, K), as the local attention sees them; the same tensor where there is no rotary embedding
    private readonly Tensor values;    // (B, S, G, C, V)
    private readonly long capacity;    // C

    public SegmentTokens(Tensor keys, Tensor localKeys, Tensor values, SegmentMarks marks)
        : this(keys, localKeys, values, marks, keys.size(3), keys.size(3))
    {
    }

    private SegmentTokens(Tensor keys, Tensor localKeys, Tensor values, SegmentMarks marks, long length, long capacity)
    {
        (this.keys, this.localKeys, this.values, this.capacity, Marks, Length) = (keys, localKeys, values, capacity, marks, length);
        Tensors = HasPositions ? [keys, localKeys, values, .. marks.Tensors] : [keys, values, .. marks.Tensors];
    }

    public SegmentMarks Marks { get; }

    public long Length { get; }

    /// <summary>(B, S, G, L, K)</summary>
    public Tensor Keys => Filled(keys);

    /// <summary>(B, S, G, L, K)</summary>
    public Tensor LocalKeys => Filled(localKeys);

    /// <summary>(B, S, G, L, V)</summary>
    public Tensor Values => Filled(values);

    /// <summary>Every tensor held, each once.</summary>
    public Tensor[] Tensors { get; }

    /// <summary>Whether the local attention sees keys of its own, turned by a rotary embedding.</summary>
    public bool HasPositions => !ReferenceEquals(keys, localKeys);

    public ScalarType Type => keys.dtype;

    /// <summary>These tokens followed by others, in new tensors.</summary>
    public SegmentTokens Append(SegmentTokens next)
    {
        var joined = cat([Keys, next.Keys], 3);
        return new(
            joined,
            HasPositions ? cat([LocalKeys, next.LocalKeys], 3) : joined,
            cat([Values, next.Values], 3),
            Marks.Append(next.Marks, Length, next.Length));
    }

    /// <summary>These tokens followed by others, written into this segment's buffers, or into new ones of <paramref name="capacity"/> tokens where they do not fit.</summary>
    public SegmentTokens AppendInPlace(SegmentTokens next, long capacity)
    {
        var buffers = capacity == this.capacity ? this : Copy(capacity);
        Write(buffers.keys, next.Keys);
        if (HasPositions)
        {
            Write(buffers.localKeys, next.LocalKeys);
        }

        Write(buffers.values, next.Values);
        return new(buffers.keys, buffers.localKeys, buffers.values, Marks.Append(next.Marks, Length, next.Length), Length + next.Length, capacity);

        void Write(Tensor buffer, Tensor added)
        {
            using var place = buffer.narrow(3, Length, next.Length);
            place.copy_(added);
        }
    }

    /// <summary>The same buffers, holding nothing.</summary>
    public SegmentTokens Emptied() => new(keys, localKeys, values, SegmentMarks.None, 0, capacity);

    /// <summary>No tokens, with the widths of these and room for <paramref name="capacity"/>.</summary>
    public SegmentTokens EmptyLike(long capacity)
    {
        var emptyKeys = Buffer(keys, capacity);
        return new(emptyKeys, HasPositions ? Buffer(localKeys, capacity) : emptyKeys, Buffer(values, capacity), SegmentMarks.None, 0, capacity);
    }

    /// <summary>Each tensor replaced by what <paramref name="map"/> makes of it and the dimension of its rows.</summary>
    public SegmentTokens Map(Func<Tensor, long, Tensor> map)
    {
        var mapped = map(keys, 0);
        return new(mapped, HasPositions ? map(localKeys, 0) : mapped, map(values, 0), MapMarks(map), Length, capacity);
    }

    /// <summary>The tokens so far of the given rows, (B) bool, made padding: as if the rows had not begun.</summary>
    public SegmentTokens Forget(Tensor rows)
    {
        if (Length == 0)
        {
            return Map((tensor, _) => tensor.alias());
        }

        var forgotten = rows.view(-1, 1, 1).expand(rows.shape[0], 1, Length);
        var marks = MapMarks((tensor, _) => tensor.alias()) with { Padding = Marks.Padding is null ? forgotten.clone() : Marks.Padding | forgotten };
        var aliased = keys.alias();
        return new(aliased, HasPositions ? localKeys.alias() : aliased, values.alias(), marks, Length, capacity);
    }

    private SegmentMarks MapMarks(Func<Tensor, long, Tensor> map) => ReferenceEquals(Marks, SegmentMarks.None) ? Marks : new(
        Marks.Padding is null ? null : map(Marks.Padding, 0),
        Marks.Documents is null ? null : map(Marks.Documents, 0),
        Marks.Weights is null ? null : map(Marks.Weights, 0));

    private SegmentTokens Copy(long capacity)
    {
        var copy = EmptyLike(capacity);
        return Length == 0 ? copy : copy.AppendInPlace(this, capacity);
    }

    private Tensor Filled(Tensor tensor) => Length == capacity ? tensor : tensor.narrow(3, 0, Length);

    private static Tensor Buffer(Tensor like, long capacity)
    {
        // A normal tensor even in inference mode, so that a stream may leave that mode.
        using var noInference = inference_mode(false);
        using var noGrad = no_grad();
        return zeros([like.shape[0], like.shape[1], like.shape[2], capacity, like.shape[4]], like.dtype, like.device);
    }
}
