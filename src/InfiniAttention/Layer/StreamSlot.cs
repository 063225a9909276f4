namespace InfiniAttention;

/// <summary>
/// What a stream and the layers of its model share while the stream is active on a thread: each layer's state, before and after its tokens,
/// and what is known about the tokens. A streamer fills it; the layers read and write it, and know nothing else about streams.
/// </summary>
/// <remarks>
/// A slot belongs to one computation on one thread, and both refer to it. The thread alone would not be enough: while a computation awaits
/// inside its activation, its thread runs other computations, which must not see its memory.
/// </remarks>
internal abstract class StreamSlot : IDisposable
{
    private static readonly AsyncLocal<StreamSlot?> OfComputation = new();

    [ThreadStatic]
    private static StreamSlot? ofThread;

    private readonly int thread = Environment.CurrentManagedThreadId;
    private readonly StreamSlot? threadBefore;
    private readonly StreamSlot? computationBefore;
    private volatile bool isOver;

    /// <summary>Makes this the slot of the computation and of its thread, until it is disposed of.</summary>
    protected StreamSlot(TokenInfo? info)
    {
        (Outer, Info) = (Active, info);
        (threadBefore, computationBefore) = (OnThread, InComputation);
        OfComputation.Value = ofThread = this;
    }

    /// <summary>The slot of the computation that runs on this thread; null if no stream is active in it.</summary>
    public static StreamSlot? Active => OnThread is { } slot && slot == InComputation ? slot : null;

    private static StreamSlot? OnThread
    {
        get
        {
            while (ofThread is { isOver: true } over)
            {
                ofThread = over.threadBefore;
            }

            return ofThread;
        }
    }

    private static StreamSlot? InComputation
    {
        get
        {
            var slot = OfComputation.Value;
            while (slot is { isOver: true })
            {
                slot = slot.computationBefore;
            }

            return slot;
        }
    }

    /// <summary>What is known about each token of the current call, (B, T).</summary>
    public TokenInfo? Info { get; }

    /// <summary>Called for segments that a layer writes; null if there are no listeners.</summary>
    public abstract SegmentObserver? Observer { get; }

    /// <summary>This process's stretch of the call's tokens, if a group shares them.</summary>
    public virtual Stretch? Stretch => null;

    /// <summary>The slot that was active before.</summary>
    protected StreamSlot? Outer { get; }

    /// <summary>The slot that a layer of a call on this thread continues; null if it starts from an empty memory.</summary>
    /// <exception cref="InvalidOperationException">The layer runs in a stream's call that cannot carry its memory; the message says why.</exception>
    public static StreamSlot? Of(InfiniAttentionModule layer)
    {
        var (here, around) = (OnThread, InComputation);
        if (here == around)
        {
            return here?.Carries(layer) == true ? here : null;
        }

        if (around?.Carries(layer) == true)
        {
            throw new InvalidOperationException(
                "A layer ran on another thread than the stream that is active around it (for example, in Task.Run inside Activate): "
                    + "run the model on the thread that activated the stream.");
        }

        return here?.Carries(layer) == true
            ? throw new InvalidOperationException(
                "A layer ran on a thread on which another computation has a stream of the layer's model active (for example, after an await inside its activation): "
                    + "begin and end an activation without an await in between.")
            : null;
    }

    /// <summary>Whether the layer's memory is carried by this slot; false if the layer starts from an empty memory.</summary>
    /// <exception cref="InvalidOperationException">The layer must not run here.</exception>
    protected abstract bool Carries(InfiniAttentionModule layer);

    /// <summary>The state that the layer continues from; null for an empty memory. The slot keeps its ownership.</summary>
    public abstract MemoryState? Enter(InfiniAttentionModule layer);

    /// <summary>The position of the layer's next token in the stream.</summary>
    public abstract long PositionOf(InfiniAttentionModule layer);

    /// <summary>Called after <see cref="Enter"/>, with the state after the layer's tokens, or null if it failed.</summary>
    public abstract void Exit(InfiniAttentionModule layer, MemoryState? after);

    /// <summary>Called once, when the slot ends.</summary>
    protected abstract void Ended();

    /// <summary>Ends the slot and restores the slots that the computation and the thread had before.</summary>
    /// <exception cref="InvalidOperationException">It is called on another thread than the slot began on. The slot is still ended.</exception>
    public void Dispose()
    {
        if (isOver)
        {
            return;
        }

        isOver = true;
        Ended();
        if (Environment.CurrentManagedThreadId != thread)
        {
            throw new InvalidOperationException(
                "An activation ended on another thread than it began on (for example, after an await inside it), and what its model read in between may not be in the stream: "
                    + "begin and end an activation on one thread.");
        }

        OfComputation.Value = computationBefore;
    }
}
