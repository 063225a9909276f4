using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Padding, documents and write weights of the tokens of S segments, each (B, S, L), or null if the caller gave none.
/// <c>Documents</c> counts the document starts so far in the segment: tokens with count 0 continue the document of the previous segment.
/// </summary>
internal sealed record SegmentMarks(Tensor? Padding, Tensor? Documents, Tensor? Weights)
{
    public static readonly SegmentMarks None = new(null, null, null);

    public bool IsEmpty => Padding is null && Documents is null && Weights is null;

    public IEnumerable<Tensor> Tensors => IsEmpty ? [] : new[] { Padding, Documents, Weights }.OfType<Tensor>();

    /// <summary>Marks of tokens that begin their segments: <paramref name="info"/> (B, S*L) cut into S segments.</summary>
    public static SegmentMarks From(TokenInfo? info, long segments, ScalarType stateType)
    {
        if (info is null || info.IsEmpty)
        {
            return None;
        }

        return new(
            info.KeyPaddingMask is null ? null : Cut(info.KeyPaddingMask),
            info.DocumentStarts is null ? null : Cut(info.DocumentStarts).cumsum(-1, int64),
            info.WriteWeights is null ? null : Describe.As(Cut(info.WriteWeights), stateType));

        Tensor Cut(Tensor tensor) => tensor.reshape(tensor.size(0), segments, -1);
    }

    /// <summary>These marks, of <paramref name="length"/> tokens, followed by those of <paramref name="added"/> tokens of the same segment.</summary>
    public SegmentMarks Append(SegmentMarks next, long length, long added)
    {
        if (IsEmpty && next.IsEmpty)
        {
            return None;
        }

        return new(
            Join(Padding, next.Padding, Scalars.Zero),
            Join(Documents, Continue(next.Documents), Scalars.Zero, continued: true),
            Join(Weights, next.Weights, Scalars.One));

        Tensor? Continue(Tensor? documents) => documents is null || Documents is null
            ? documents
            : documents.add(Documents.narrow(-1, length - 1, 1), Scalars.OneInteger);

        Tensor? Join(Tensor? first, Tensor? second, Scalar absent, bool continued = false)
        {
            if (first is null && second is null)
            {
                return null;
            }

            second ??= continued ? first!.narrow(-1, length - 1, 1).expand(first.size(0), first.size(1), added) : Filled(first!, added, absent);
            return cat([first ?? Filled(second, length, absent), second], -1);
        }
    }

    private static Tensor Filled(Tensor like, long count, Scalar value) => full([like.size(0), like.size(1), count], value, like.dtype, like.device);

    /// <summary>Copies of the marks, because a caller may reuse the memory of a mask.</summary>
    public SegmentMarks Owned() => Map(tensor => tensor.clone());

    /// <summary>Applies <paramref name="map"/> to each tensor.</summary>
    public SegmentMarks Map(Func<Tensor, Tensor> map) => IsEmpty ? this : new(
        Padding is null ? null : map(Padding),
        Documents is null ? null : map(Documents),
        Weights is null ? null : map(Weights));

    /// <summary>
    /// Which keys the last <paramref name="n"/> tokens may attend, (B, S, n, L); null if only the causal mask applies.
    /// </summary>
    public Tensor? Visible(long n)
    {
        if ((Padding ?? Documents) is not { } any)
        {
            return null;
        }

        using var scope = NewDisposeScope();
        var length = any.size(2);
        var mask = Causal(n, length, any.device);
        if (Padding is not null)
        {
            mask = mask.logical_and(Padding.unsqueeze(-2).logical_not());
        }

        if (Documents is not null)
        {
            mask = mask.logical_and(Documents.narrow(-1, length - n, n).unsqueeze(-1).eq(Documents.unsqueeze(-2)));
        }

        return mask.MoveToOuterDisposeScope();
    }

    /// <summary>Which tokens the next segment's queries do not see, (B, S, L): padding, and documents that have ended; null if they see all.</summary>
    public Tensor? HiddenFromNext()
    {
        if (Documents is null)
        {
            return Padding;
        }

        var isOver = Documents.ne(Documents.narrow(-1, Documents.size(2) - 1, 1));
        return Padding is null ? isOver : Padding.logical_or(isOver);
    }

    /// <summary>The padding and documents of <paramref name="length"/> tokens, preceded by those of the segments before.</summary>
    /// <param name="hidden">Which tokens of the segments before are hidden, (B, S, N); null if none is.</param>
    /// <param name="earlier">The number of those tokens, N.</param>
    /// <param name="length">L</param>
    public SegmentMarks Behind(Tensor? hidden, long earlier, long length)
    {
        var padding = (hidden ?? Padding) is { } any ? cat([hidden ?? Filled(any, earlier, Scalars.Zero), Padding ?? Filled(any, length, Scalars.Zero)], -1) : null;
        return new(padding, Documents is null ? null : cat([Filled(Documents, earlier, Scalars.Zero), Documents], -1), null);
    }

    /// <summary>(n, L): query i, the token L - n + i, sees the tokens up to itself.</summary>
    public static Tensor Causal(long n, long length, Device device)
    {
        using var all = ones(n, length, @bool, device);
        return all.tril(length - n);
    }

    /// <summary>Which of the last <paramref name="n"/> tokens still belong to the document that the memory holds, (B, S, n); null if all do.</summary>
    public Tensor? SeesMemory(long n) => Documents?.narrow(-1, Documents.size(2) - n, n).eq(Scalars.Zero);

    /// <summary>Which segments keep the memory before them, (B, S): those without a document start; null if all do.</summary>
    public Tensor? Keep() => Documents?.select(-1, Documents.size(2) - 1).eq(Scalars.Zero);

    /// <summary>How strongly each token is written, (B, S, L): 0 for padding and for documents that ended in the segment; null if all are 1.</summary>
    public Tensor? Writes(ScalarType stateType)
    {
        if (IsEmpty)
        {
            return null;
        }

        using var scope = NewDisposeScope();
        var writes = Weights?.alias();
        if (Documents is not null)
        {
            writes = Times(writes, Documents.eq(Documents.narrow(-1, Documents.size(2) - 1, 1)));
        }

        if (Padding is not null)
        {
            writes = Times(writes, Padding.logical_not());
        }

        return writes!.MoveToOuterDisposeScope();

        Tensor Times(Tensor? weights, Tensor condition) => weights is null ? condition.to(stateType) : weights.masked_fill(condition.logical_not(), Scalars.Zero);
    }
}
