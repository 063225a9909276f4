using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What a call does with the state after it.</summary>
internal enum StateUse
{
    /// <summary>Nobody asks for it: the last segment need not be written.</summary>
    None,

    /// <summary>It is returned in tensors of its own; the state before stays valid.</summary>
    Return,

    /// <summary>It succeeds the state before and may share tensors with it; without gradients the open segment is appended to in place.</summary>
    Succeed,
}

/// <summary>M (B, G, K, V), z (B, G, K), the open segment and the position, as they pass through one call.</summary>
internal readonly record struct LayerMemory(Tensor M, Tensor Z, SegmentTokens? Open, long Position)
{
    /// <summary>The open segment with new tokens at its end, or the new tokens alone where none is open.</summary>
    public SegmentTokens With(SegmentTokens tokens, long segmentLength, StateUse use)
    {
        if (use == StateUse.Succeed && !is_grad_enabled() && tokens.Length < segmentLength)
        {
            return (Open ?? tokens.EmptyLike(segmentLength)).AppendInPlace(tokens, segmentLength);
        }

        return Open is null or { Length: 0 } ? tokens : Open.Append(tokens);
    }

    /// <summary>
    /// The memory after a stretch of tokens, scanned where they complete a segment. Buffers of an open segment that became whole
    /// are kept for the next only where the stretch is all of its call: a later stretch would overwrite what the state before
    /// still holds.
    /// </summary>
    public LayerMemory After(SegmentTokens tokens, SegmentMemories? scanned, long count, bool isWhole, StateUse use, bool isWholeCall)
    {
        SegmentTokens? open = tokens;
        if (isWhole)
        {
            var keepsBuffers = use == StateUse.Succeed && isWholeCall && Open is not null && !is_grad_enabled();
            open = keepsBuffers ? (Position % tokens.Length == 0 ? Open : tokens.Emptied()) : null;
        }

        var (m, z) = scanned is { } memories ? (memories.After.MoveToOuterDisposeScope(), memories.NormalizerAfter.MoveToOuterDisposeScope()) : (M, Z);
        foreach (var tensor in open is null || ReferenceEquals(open, Open) ? [] : open.Tensors)
        {
            if (Open is null || !Describe.Holds(Open.Tensors, tensor))
            {
                tensor.MoveToOuterDisposeScope();
            }
        }

        return new(m, z, open, Position + count);
    }

    /// <summary>The state after a call that began at <paramref name="before"/>.</summary>
    public MemoryState ToState(MemoryState? before, StateUse use)
    {
        if (use == StateUse.Succeed || before is null)
        {
            return new(M, Z, Position, Open);
        }

        // Tensors that the call left as they were get handles of their own.
        return new(Own(M), Own(Z), Position, Open?.Map((tensor, _) => Own(tensor)));

        Tensor Own(Tensor tensor) => before.Holds(tensor) ? tensor.alias() : tensor;
    }
}
