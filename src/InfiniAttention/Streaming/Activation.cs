namespace InfiniAttention;

/// <summary>The time during which a stream is the active one of its thread.</summary>
internal sealed class Activation : StreamSlot
{
    private readonly StreamStates states;
    private readonly bool isCall;
    private readonly bool isObserved;
    private readonly bool isInner;

    /// <param name="states">The stream.</param>
    /// <param name="info">What is known about each token.</param>
    /// <param name="isCall">Whether the streamer itself calls its model.</param>
    /// <param name="isObserved">Whether the stream's listeners get its segments, unless an outer activation of the stream says no.</param>
    /// <param name="stretch">This process's stretch of the call's tokens, if a group shares them.</param>
    public Activation(StreamStates states, TokenInfo? info, bool isCall, bool isObserved = true, Stretch? stretch = null)
        : base(info)
    {
        Stretch = stretch;
        var outer = Outer is Activation activation && activation.states == states ? activation : null;
        isInner = outer is not null;
        (this.states, this.isCall, this.isObserved) = (states, isCall || outer?.isCall == true, isObserved && outer?.isObserved != false);
    }

    public SegmentStreamer Streamer => states.Streamer;

    /// <inheritdoc/>
    public override SegmentObserver? Observer => isObserved ? Streamer.Observer : null;

    /// <inheritdoc/>
    public override Stretch? Stretch { get; }

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
    public override long PositionOf(InfiniAttentionModule layer) => Streamer.Position;

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
