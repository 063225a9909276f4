using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>How a call is cut into blocks, and what is passed from block to block.</content>
public sealed partial class InfiniAttentionModule
{
    /// <summary>Whether the projections are modules of the layer, created or given; if not, they are functions of the enclosing module.</summary>
    internal bool HasProjectionModules => projections.Modules is not null;

    /// <summary>Checks the arguments, cuts the tokens into blocks, attends each block, and passes the state from block to block.</summary>
    internal (Tensor Output, MemoryState? State) Run(MemoryState? before, Tensor x, TokenInfo? info, CallUse use)
    {
        Check(before, x, info);
        using var scope = NewDisposeScope();
        HostHeap.KeepTemporaries();
        var blocks = Cut(before, x, use.Stretch);
        var type = MemoryState.TypeFor(x.dtype);
        var learned = new MixParameters(Describe.As(gate, type), memory_norm?.In(type));
        var norms = q_norm is null ? null : new HeadScales(q_norm.In(type), k_norm!.In(type), normEpsilon);
        var isAtOnce = IsAtOnce(x, blocks);
        var heads = isAtOnce ? Project(x, info).Split([.. blocks.Select(block => block.Length)]) : null;
        var inputs = isAtOnce ? null : Inputs(x, blocks);
        var outputs = new BlockOutputs(x.size(1));
        var state = StateBefore(before, x, use.Stretch);
        var isReturned = false;
        try
        {
            for (var i = 0; i < blocks.Count; i++)
            {
                var block = blocks[i] with { IsOnly = blocks.Count == 1, HasSuccessor = use.WantsState || i < blocks.Count - 1 || use.Stretch is { IsLast: false } };
                var context = new BlockContext(state, learned, norms, block.IsOnly ? info : info?.Narrow(block.Start, block.Length), use.Observer)
                {
                    Stretch = i == 0 ? use.Stretch : null,
                };
                var (ofBlock, after) = isAtOnce ? Attend(heads![i], context, block) : ProjectAndAttend(inputs![i], context, block);
                state.Dispose();
                state = after;
                outputs.Add(block.Start, ofBlock);
            }

            var output = isAtOnce ? projections.Output(outputs.Join()) : outputs.Join();
            isReturned = use.WantsState;
            return (output.MoveToOuterDisposeScope(), isReturned ? state : null);
        }
        finally
        {
            if (!isReturned)
            {
                state.Dispose();
            }
        }
    }

    /// <summary>The blocks of a call. A stretch of a group is one block, because the group exchanges what it writes once; a part of a segment at its end is another.</summary>
    private List<Block> Cut(MemoryState? before, Tensor x, Stretch? stretch)
    {
        var isFirstAlone = Options.LocalSegments > 1 && before?.Earlier is null && stretch is null;
        return Block.Cut(before?.Position ?? 0, x.size(1), Options.SegmentLength, stretch is null ? BlockSize.Segments(Options, x) : long.MaxValue, isFirstAlone);
    }

    /// <summary>The state that the call continues from; what the ranks before write is added during the call.</summary>
    private MemoryState StateBefore(MemoryState? before, Tensor x, Stretch? stretch)
    {
        if (stretch is { IsFirst: false } && before is not null)
        {
            return before.Cleared(before.Position + stretch.Offset);
        }

        return before?.Share() ?? MemoryState.Empty(
            [x.size(0), Options.KeyValueHeads, Options.KeyWidth, Options.ValueWidth], MemoryState.TypeFor(x.dtype), x.device, stretch?.Offset ?? 0);
    }

    /// <summary>
    /// Whether all blocks are projected together. In half precision, gradients of weights that are used in each block would be summed in half precision,
    /// block by block; in one product they are summed in float32. Without gradients, or in float32, each block is projected by itself, which takes less memory.
    /// </summary>
    private static bool IsAtOnce(Tensor x, List<Block> blocks) => blocks.Count > 1 && is_grad_enabled() && Describe.IsHalf(x.dtype);

    /// <summary>Q, K and V of the tokens, and Q and K of the memory if it has its own projections.</summary>
    private ProjectedHeads Project(Tensor x, TokenInfo? info)
    {
        x = WithFinitePadding(x, info?.KeyPaddingMask);
        return new(projections.Query(x), projections.Key(x), projections.Value(x), memory_q_proj?.call(x), memory_k_proj?.call(x));
    }

    /// <summary>Projections, equations 6 to 10, projection, for the tokens of a block.</summary>
    private (Tensor Output, MemoryState After) ProjectAndAttend(Tensor x, BlockContext context, Block block)
    {
        using var scope = NewDisposeScope();
        var (attended, after) = Attend(Project(x, context.Info), context, block);
        try
        {
            return (projections.Output(attended).MoveToOuterDisposeScope(), after);
        }
        catch
        {
            after.Dispose();
            throw;
        }
    }

    /// <summary>Equations 6 to 10 for the tokens of a block, heads side by side, (B, n, H*V).</summary>
    private (Tensor Attended, MemoryState After) Attend(ProjectedHeads heads, BlockContext context, Block block)
    {
        using var scope = NewDisposeScope();
        var before = context.Before;
        var (batch, segments, n) = (heads.Q.size(0), block.Segments, block.Length / block.Segments);
        var (q, k, v) = (Queries(heads.Q), Keys(heads.K), heads.V.view(batch, segments, n, Options.KeyValueHeads, Options.ValueWidth));
        (q, k) = context.Norms is { } norms ? (norms.Queries(q), norms.Keys(k)) : (q, k);
        var (memoryQueries, memoryKeys) = (heads.MemoryQ is null ? q : Queries(heads.MemoryQ), heads.MemoryK is null ? k : Keys(heads.MemoryK));
        var offset = before.Position % Options.SegmentLength;
        var queries = new SegmentQueries(rotary?.Rotate(q, offset) ?? q, memoryQueries);
        var tokens = new SegmentTokens(memoryKeys, v, SegmentMarks.From(context.Info, segments, before.Memory.dtype))
        {
            OtherLocalKeys = rotary?.Rotate(k, offset) ?? (Options.HasOtherLocalKeys ? k : null),
            OtherPassedKeys = Options.HasOtherPassedKeys ? rotary!.Rotate(k, offset - Options.SegmentLength) : null,
        };

        var isKept = offset > 0 || (offset + n < Options.SegmentLength && block.HasSuccessor);
        var open = isKept ? OpenSegment.Append(before.Open, tokens, Options.SegmentLength) : null;
        try
        {
            using var inView = context.Stretch is { } handing && Options.LocalSegments > 1
                ? before.Behind(EarlierHandOver.Exchange(handing, tokens, before.Earlier, Options.SegmentLength)) : null;
            before = inView ?? before;
            tokens = (open?.Tokens ?? tokens) with { Earlier = before.Earlier };
            var isWhole = tokens.Length == Options.SegmentLength;
            var findsNothing = segments == 1 && before.Matrix.IsEmpty;
            var steps = new AttentionSteps(
                Writes: isWhole && (segments > 1 || block.HasSuccessor),
                Reads: !findsNothing || context.Stretch is not null || (block.IsOnly && is_grad_enabled()), // with gradients on, a single block's graph must include the gate
                Dropout: training ? Options.Dropout : 0,
                context.Stretch);
            var (a, memory) = attention.Attend(queries, tokens, before.Matrix, context.Learned, steps);
            if (steps.Writes)
            {
                context.Observer?.Invoke(this, tokens, memory, before.Position);
            }

            var attended = Describe.As(a, heads.Q.dtype).reshape(batch, block.Length, -1);
            var ended = isWhole && block.HasSuccessor && Options.LocalSegments > 1 ? EarlierSegment.LastOf(tokens) : null;
            return (attended.MoveToOuterDisposeScope(), before.Next(memory.After, block.Length, isWhole ? null : open, ended));
        }
        finally
        {
            open?.Release();
        }

        Tensor Queries(Tensor projected) => projected.view(batch, segments, n, Options.KeyValueHeads, Options.QueriesPerKey, Options.KeyWidth);

        Tensor Keys(Tensor projected) => projected.view(batch, segments, n, Options.KeyValueHeads, Options.KeyWidth);
    }

    /// <summary>x for each block. With gradients it is split in one call, because the gradient of a single slice is as large as x; without, views leave no native memory behind.</summary>
    private static Tensor[] Inputs(Tensor x, List<Block> blocks)
    {
        if (blocks.Count == 1)
        {
            return [x];
        }

        return x.requires_grad && is_grad_enabled()
            ? x.split([.. blocks.Select(block => block.Length)], 1)
            : [.. blocks.Select(block => x.narrow(1, block.Start, block.Length))];
    }

    /// <summary>
    /// x (B, T, D) with 0 in place of padding (B, T) that is not finite or so large that scores would not be finite: where padding
    /// is multiplied by 0, the product would be NaN.
    /// </summary>
    private static Tensor WithFinitePadding(Tensor x, Tensor? padding)
    {
        if (padding is null)
        {
            return x;
        }

        using var scope = NewDisposeScope();
        var isSpoilt = padding.logical_and(x.detach().norm(-1).isfinite().logical_not());
        return x.masked_fill(isSpoilt.unsqueeze(-1), Scalars.Zero).MoveToOuterDisposeScope();
    }
}

/// <summary>Called after a layer writes segments to its memory; <paramref name="position"/> is that of the first of their tokens in the call.</summary>
internal delegate void SegmentObserver(InfiniAttentionModule layer, SegmentTokens tokens, CompressiveMemory memory, long position);

/// <summary>The context of a block.</summary>
/// <param name="Before">The state before it.</param>
/// <param name="Learned">The gates and the norms of the memory.</param>
/// <param name="Norms">The norms of queries and keys; null for none.</param>
/// <param name="Info">What is known about its tokens.</param>
/// <param name="Observer">Called for segments that are written; null if there are no listeners.</param>
internal readonly record struct BlockContext(MemoryState Before, MixParameters Learned, HeadScales? Norms, TokenInfo? Info, SegmentObserver? Observer)
{
    /// <summary>If the block begins this process's stretch of a sequence that a group shares: that stretch.</summary>
    public Stretch? Stretch { get; init; }
}

/// <summary>What the caller of a call uses.</summary>
/// <param name="WantsState">Whether the state after it is returned.</param>
/// <param name="Observer">Called for segments that are written; null if there are no listeners.</param>
/// <param name="Stretch">This process's stretch of a sequence that a group shares; null if the call is not shared.</param>
internal readonly record struct CallUse(bool WantsState, SegmentObserver? Observer = null, Stretch? Stretch = null)
{
    public static readonly CallUse Output = new(false);
    public static readonly CallUse OutputAndState = new(true);
}
