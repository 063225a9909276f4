namespace InfiniAttention;

/// <summary>
/// What a stream and the layers of its model share while the stream is active on a thread: each layer's state goes in and comes out,
/// and what is known of the tokens. A streamer fills it; the layers read and write it, and know no more of streams.
/// </summary>
internal abstract class StreamSlot : IDisposable
{
    [ThreadStatic]
    private static StreamSlot? innermost;

    // Flows with a computation to other threads, where the slot itself is not: there a layer would start from an empty memory.
    private static readonly AsyncLocal<StreamSlot?> Flowing = new();

    private readonly int thread = Environment.CurrentManagedThreadId;
    private volatile bool isOver;

    /// <summary>Makes this the slot of the thread, until it is disposed of.</summary>
    protected StreamSlot(TokenInfo? info, SegmentObserver? observer)
    {
        (Outer, Info, Observer) = (Active, info, observer);
        Flowing.Value = innermost = this;
    }

    /// <summary>The slot of this thread; null if no stream is active.</summary>
    public static StreamSlot? Active
    {
        get
        {
            while (innermost is { isOver: true } over)
            {
                innermost = over.Outer;
            }

            return innermost;
        }
    }

    /// <summary>What is known of each token of the call under way, (B, T).</summary>
    public TokenInfo? Info { get; }

    /// <summary>Called for segments that a layer writes; null if nobody listens.</summary>
    public SegmentObserver? Observer { get; }

    /// <summary>The slot that was the thread's before.</summary>
    protected StreamSlot? Outer { get; }

    /// <summary>The slot that a layer of a call on this thread continues; null if it starts from an empty memory.</summary>
    /// <exception cref="InvalidOperationException">The layer runs in a stream's call, and the stream cannot carry its memory; the message says why.</exception>
    public static StreamSlot? Of(InfiniAttentionModule layer)
    {
        if (Active is { } active)
        {
            return active.Carries(layer) ? active : null;
        }

        return Flowing.Value is { isOver: false } elsewhere && elsewhere.Carries(layer)
            ? throw new InvalidOperationException(
                "A layer ran on another thread than the stream that is active around it (Task.Run inside Activate, perhaps): "
                    + "run the model on the thread that activated the stream.")
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

    /// <summary>Gives the thread back the slot before.</summary>
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

        Flowing.Value = Active;
    }
}
