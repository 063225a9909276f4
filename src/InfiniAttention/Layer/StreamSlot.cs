namespace InfiniAttention;
internal sealed class StreamSlot(SegmentStreamer s)
{
    public static StreamSlot? Of(InfiniAttentionModule layer) => SegmentStreamer.Current is { } s && s.Holds(layer) ? new(s) : null;
    public MemoryState? StateOf(InfiniAttentionModule layer) => s.States.Enter(layer);
    public TokenInfo? Info => s.ActiveInfo;
    public SegmentObserver? SegmentsWritten => s.Observer;
    public void Advance(InfiniAttentionModule layer, MemoryState after) => s.States.Leave(layer, after);
}
