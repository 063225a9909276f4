using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Padding, documents and write weights of the tokens of S segments, each (B, S, L) or null where the caller said nothing of it.
/// <c>Documents</c> counts the starts so far in the segment: tokens of count 0 continue the document of the segment before.
/// </summary>
internal sealed record SegmentMarks(Tensor? Padding, Tensor? Documents, Tensor? Weights)
{
    public static readonly SegmentMarks None = new(null, null, null);

    public IEnumerable<Tensor> Tensors => ReferenceEquals(this, None) ? [] : new[] { Padding, Documents, Weights }.OfType<Tensor>();

    /// <summary>Marks of tokens that begin their segments: <paramref name="info"/> (B, S*L) cut into S segments.</summary>
    public static SegmentMarks From(TokenInfo? info, long segments, ScalarType stateType)
    {
        if (info is null || info.IsEmpty)
        {
            return None;
        }

        return new(
            info.KeyPaddingMask is null ? null : Own(Cut(info.KeyPaddingMask)),
            info.DocumentStarts is null ? null : Cut(info.DocumentStarts).cumsum(-1, int64),
            info.WriteWeights is null ? null : Own(Cut(info.WriteWeights)).to(stateType));

        Tensor Cut(Tensor tensor) => tensor.view(tensor.shape[0], segments, -1);

        // A single segment may stay open: what it holds must not change with the caller's tensor.
        Tensor Own(Tensor tensor) => segments == 1 ? tensor.clone() : tensor;
    }

    /// <summary>These marks, of <paramref name="length"/> tokens, followed by those of <paramref name="added"/> tokens of the same segment.</summary>
    public SegmentMarks Append(SegmentMarks next, long length, long added)
    {
        if (ReferenceEquals(this, None) && ReferenceEquals(next, None))
        {
            return None;
        }

        return new(
            Join(Padding, next.Padding, Scalars.Zero),
            Join(Documents, Continue(next.Documents), Scalars.Zero, continued: true),
            Join(Weights, next.Weights, Scalars.One));

        Tensor? Continue(Tensor? documents) => documents is null || Documents is null || length == 0
            ? documents
            : documents + Documents.narrow(-1, length - 1, 1);

        Tensor? Join(Tensor? first, Tensor? second, Scalar absent, bool continued = false)
        {
            if (first is null && second is null)
            {
                return null;
            }

            if (length == 0)
            {
                return second ?? Filled(first!, added, absent);
            }

            second ??= continued ? first!.narrow(-1, length - 1, 1).expand(first.shape[0], first.shape[1], added) : Filled(first!, added, absent);
            return cat([first ?? Filled(second, length, absent), second], -1);
        }

        static Tensor Filled(Tensor like, long count, Scalar value) =>
            full([like.shape[0], like.shape[1], count], value, like.dtype, like.device);
    }

    /// <summary>
    /// What the last <paramref name="n"/> tokens may attend, (B, S, n, L), null where causality is all; and which of them see a
    /// key at all, (B, S, n, 1), null where all do. A query with nothing to attend sees everything in the mask.
    /// </summary>
    public (Tensor? Mask, Tensor? HasKey) LocalMask(long n)
    {
        if ((Padding ?? Documents) is not { } any)
        {
            return (null, null);
        }

        using var scope = NewDisposeScope();
        var mask = Allowed(n, any);
        if (Padding is null)
        {
            return (mask.MoveToOuterDisposeScope(), null); // every token sees at least itself
        }

        var hasKey = mask.any(-1, true);
        return ((mask | ~hasKey).MoveToOuterDisposeScope(), hasKey.MoveToOuterDisposeScope());
    }

    /// <summary>Which of the last <paramref name="n"/> tokens still belong to the document that the memory holds, (B, S, n); null where all do.</summary>
    public Tensor? SeesMemory(long n) => Documents is null ? null : Documents.narrow(-1, Documents.shape[^1] - n, n) == Scalars.Zero;

    /// <summary>Which segments leave the memory before them in place, (B, S): those without a document start; null where all do.</summary>
    public Tensor? Keep() => Documents is null ? null : Documents.select(-1, Documents.shape[^1] - 1) == Scalars.Zero;

    /// <summary>How strongly each token is written, (B, S, L): 0 for padding and for documents that ended in the segment; null where all are 1.</summary>
    public Tensor? Writes(ScalarType stateType)
    {
        using var scope = NewDisposeScope();
        var writes = Weights;
        if (Documents is not null)
        {
            writes = Times(writes, Documents == Documents.narrow(-1, Documents.shape[^1] - 1, 1));
        }

        if (Padding is not null)
        {
            writes = Times(writes, ~Padding);
        }

        return writes?.alias().MoveToOuterDisposeScope();

        Tensor Times(Tensor? weights, Tensor condition) => weights is null ? condition.to(stateType) : weights.masked_fill(~condition, Scalars.Zero);
    }

    private Tensor Allowed(long n, Tensor any)
    {
        var length = any.shape[^1];
        var mask = LocalAttention.Causal(n, length, any.device);
        if (Padding is not null)
        {
            mask = mask & ~Padding.unsqueeze(-2);
        }

        if (Documents is not null)
        {
            mask = mask & (Documents.narrow(-1, length - n, n).unsqueeze(-1) == Documents.unsqueeze(-2));
        }

        return mask;
    }
}
