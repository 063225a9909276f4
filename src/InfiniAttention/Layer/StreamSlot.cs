namespace InfiniAttention;

/// <summary>
/// What a stream and the layers of its model share while the stream is active on a thread: each layer's state goes in and comes out,
/// and what is known of the tokens. A streamer fills it; the layers read and write it, and know no more of streams.
/// </summary>
/// <remarks>
/// A slot belongs to one computation on one thread, and is kept by both. A thread alone would not do: while a computation awaits
/// inside its activation, its thread runs others, which must not see its memory.
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

    /// <summary>What is known of each token of the call under way, (B, T).</summary>
    public TokenInfo? Info { get; }

    /// <summary>Called for segments that a layer writes; null if nobody listens.</summary>
    public abstract SegmentObserver? Observer { get; }

    /// <summary>The slot that was the active one before.</summary>
    protected StreamSlot? Outer { get; }

    /// <summary>The slot that a layer of a call on this thread continues; null if it starts from an empty memory.</summary>
    /// <exception cref="InvalidOperationException">The layer runs in a stream's call, and the stream cannot carry its memory; the message says why.</exception>
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
                "A layer ran on another thread than the stream that is active around it (Task.Run inside Activate, perhaps): "
                    + "run the model on the thread that activated the stream.");
        }

        return here?.Carries(layer) == true
            ? throw new InvalidOperationException(
                "A layer ran on a thread on which another computation has a stream of the layer's model active (an await inside its activation, perhaps): "
                    + "begin and end an activation without an await in between.")
            : null;
    }

    /// <summary>Whether the layer's memory is carried by this slot; false if the layer starts from an empty memory.</summary>
    /// <exception cref="InvalidOperationException">The layer must not run here.</exception>
    protected abstract bool Carries(InfiniAttentionModule layer);

    /// <summary>The state that the layer continues from; null for an empty memory. It stays the slot's.</summary>
    public abstract MemoryState? Enter(InfiniAttentionModule layer);

    /// <summary>Where the layer's next token stands in the stream.</summary>
    public abstract long PositionOf(InfiniAttentionModule layer);

    /// <summary>Called after <see cref="Enter"/>, with the state after the layer's tokens, or null if it failed.</summary>
    public abstract void Exit(InfiniAttentionModule layer, MemoryState? after);

    /// <summary>Called once, when the slot is no longer that of its thread.</summary>
    protected abstract void Ended();

    /// <summary>Gives computation and thread back the slots that they had before.</summary>
    /// <exception cref="InvalidOperationException">This is another thread. The slot is over all the same.</exception>
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
                "An activation ended on another thread than it began on (an await inside it, perhaps), and what its model read in between may not be in the stream: "
                    + "begin and end an activation on one thread.");
        }

        OfComputation.Value = computationBefore;
    }
}
