namespace InfiniAttention;

/// <summary>Tokens that go through the equations at once: of whole segments, or of (a part of) one.</summary>
/// <param name="Start">Its first token, counted in the call.</param>
/// <param name="Length">How many tokens of each row.</param>
/// <param name="Segments">In how many segments they lie.</param>
internal readonly record struct Block(long Start, long Length, long Segments)
{
    /// <summary>Whether the call has no other block.</summary>
    public bool IsOnly { get; init; }

    /// <summary>Whether anybody reads the state after the block.</summary>
    public bool HasSuccessor { get; init; }

    /// <summary>
    /// Splits the tokens of a call: the rest of the open segment, then whole segments, as many at once as a block holds, then a
    /// partial segment.
    /// </summary>
    /// <param name="position">Where the stream stands.</param>
    /// <param name="tokens">Tokens of each row in the call.</param>
    /// <param name="segmentLength">N</param>
    /// <param name="blockSegments">The most segments of a block.</param>
    /// <param name="isFirstAlone">Whether the first segment is a block of its own, because those after it have a segment before them in view and it has none.</param>
    public static List<Block> Cut(long position, long tokens, long segmentLength, long blockSegments, bool isFirstAlone)
    {
        var blocks = new List<Block>();
        for (long start = 0, length; start < tokens; start += length)
        {
            var open = (position + start) % segmentLength;
            var segments = open == 0 && !(isFirstAlone && start == 0) ? Math.Clamp((tokens - start) / segmentLength, 1, blockSegments) : 1;
            length = Math.Min((segments * segmentLength) - open, tokens - start);
            blocks.Add(new(start, length, segments));
        }

        return blocks;
    }
}
