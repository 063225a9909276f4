namespace InfiniAttention;

/// <summary>The time during which a stream is the active one of its thread.</summary>
internal sealed class Activation : StreamSlot
{
    private readonly StreamStates states;
    private readonly bool isCall;
    private readonly bool isInner;

    /// <param name="states">The stream.</param>
    /// <param name="info">What is known of each token.</param>
    /// <param name="observer">Called for segments that a layer writes.</param>
    /// <param name="isCall">Whether the streamer itself calls its model.</param>
    public Activation(StreamStates states, TokenInfo? info, SegmentObserver? observer, bool isCall)
        : base(info, observer)
    {
        isInner = Outer is Activation outer && outer.states == states;
        (this.states, this.isCall) = (states, isCall || (isInner && ((Activation)Outer!).isCall));
    }

    public SegmentStreamer Streamer => states.Streamer;

    /// <inheritdoc/>
    protected override bool Carries(InfiniAttentionModule layer)
    {
        if (states.Holds(layer))
        {
            return true;
        }

        return isCall
            ? throw new InvalidOperationException(
                "The model ran an InfiniAttentionModule that is not among its registered modules, so that the stream cannot carry its memory: "
                    + "call RegisterComponents() in the model's constructor, and keep lists of layers in a ModuleList.")
            : false;
    }

    /// <inheritdoc/>
    public override MemoryState? Enter(InfiniAttentionModule layer) => states.Enter(layer, isCall);

    /// <inheritdoc/>
    public override long PositionOf(InfiniAttentionModule layer) => states.Position;

    /// <inheritdoc/>
    public override void Exit(InfiniAttentionModule layer, MemoryState? after) => states.Exit(layer, after, isCall);

    /// <inheritdoc/>
    protected override void Ended()
    {
        if (!isInner)
        {
            states.DropPending();
        }
    }
}
