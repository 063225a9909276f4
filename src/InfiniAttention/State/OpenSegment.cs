using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The tokens of a segment that is not complete yet, as a state keeps them.</summary>
internal sealed class OpenSegment : SharedTensors
{
    private readonly SegmentBuffer buffer;

    /// <summary>Takes over one reference to the buffer, and the marks.</summary>
    public OpenSegment(SegmentBuffer buffer, long length, SegmentMarks marks)
    {
        (this.buffer, Length, Marks) = (buffer, length, marks);
        foreach (var tensor in marks.Tensors)
        {
            tensor.DetachFromDisposeScope();
        }
    }

    /// <summary>How many tokens there are.</summary>
    public long Length { get; }

    public SegmentMarks Marks { get; }

    public ScalarType Type => buffer.Type;

    /// <summary>Whether the local attention uses other keys than the memory, and whether the next segment uses other keys again.</summary>
    public (bool Local, bool Passed) OtherKeys => buffer.OtherKeys;

    /// <summary>Every tensor held, each once; those of the buffer at their full length.</summary>
    public override IEnumerable<Tensor> Tensors => [.. buffer.Tensors, .. Marks.Tensors];

    /// <summary>The tokens, as views that belong to the caller's dispose scope.</summary>
    public SegmentTokens Tokens => buffer.First(Length, Marks);

    /// <summary>The tokens of <paramref name="before"/> (null for none) followed by others of the same segment.</summary>
    /// <param name="before">The open segment of the previous state; it stays valid.</param>
    /// <param name="next">The tokens to append.</param>
    /// <param name="capacity">Length of a segment.</param>
    public static OpenSegment Append(OpenSegment? before, SegmentTokens next, long capacity)
    {
        var length = before?.Length ?? 0;
        var marks = before is null ? next.Marks.Owned() : before.Marks.Append(next.Marks, length, next.Length);
        if (is_grad_enabled())
        {
            return new(new(before?.Tokens.Join(next, marks) ?? next.Map(tensor => tensor.alias())), length + next.Length, marks);
        }

        if (before is not null && before.buffer.TryAppend(next, length))
        {
            before.buffer.Hold();
            return new(before.buffer, length + next.Length, marks);
        }

        var buffer = SegmentBuffer.Like(next, capacity);
        if (before is not null)
        {
            buffer.TryAppend(before.Tokens, 0);
        }

        buffer.TryAppend(next, length);
        return new(buffer, length + next.Length, marks);
    }

    /// <summary>Applies <paramref name="map"/> to each tensor, whose first dimension is that of the rows.</summary>
    public OpenSegment Map(Func<Tensor, Tensor> map) => new(new(Tokens.Map(map)), Length, Marks.Map(map));

    /// <summary>Keys and values in another type, write weights in the memory's.</summary>
    public OpenSegment To(ScalarType type, ScalarType stateType) => new(
        new(Tokens.Map(tensor => tensor.to(type, copy: true))), Length, Marks.Owned() with { Weights = Marks.Weights?.to(stateType, copy: true) });

    /// <summary>Turns the tokens of the given rows, (B) bool, into padding of value 0, as if the rows had not begun.</summary>
    public OpenSegment Forget(Tensor rows)
    {
        var forgotten = rows.view(-1, 1, 1).expand(rows.size(0), 1, Length);
        var padding = Marks.Padding is null ? forgotten.clone() : Marks.Padding.logical_or(forgotten);
        return new(new(Tokens.Map(tensor => tensor.masked_fill(rows.view(-1, 1, 1, 1, 1), Scalars.Zero))), Length, Marks.Owned() with { Padding = padding });
    }

    /// <inheritdoc/>
    protected override void Free()
    {
        buffer.Release();
        foreach (var tensor in Marks.Tensors)
        {
            tensor.Dispose();
        }
    }
}
