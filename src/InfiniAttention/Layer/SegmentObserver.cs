namespace InfiniAttention;

/// <summary>Is told of segments that a layer has just written, whose first token stands at <paramref name="position"/> or, of an open one, before.</summary>
internal delegate void SegmentObserver(InfiniAttentionModule layer, SegmentTokens tokens, SegmentMemories memories, long position);
