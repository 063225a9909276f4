namespace InfiniAttention;

/// <summary>Tokens that are processed at once: whole segments, or a part of one.</summary>
/// <param name="Start">Its first token in the call.</param>
/// <param name="Length">Tokens of each row.</param>
/// <param name="Segments">The number of segments that they are in.</param>
internal readonly record struct Block(long Start, long Length, long Segments)
{
    /// <summary>Whether it is the only block of the call.</summary>
    public bool IsOnly { get; init; }

    /// <summary>Whether the state after the block is used.</summary>
    public bool HasSuccessor { get; init; }

    /// <summary>
    /// Splits the tokens of a call into blocks: the rest of the open segment, then whole segments in blocks of the given size, then a
    /// partial segment.
    /// </summary>
    /// <param name="position">The stream's position.</param>
    /// <param name="tokens">Tokens of each row in the call.</param>
    /// <param name="segmentLength">N</param>
    /// <param name="blockSegments">The most segments of a block.</param>
    /// <param name="isFirstAlone">Whether the first segment is a block of its own, because the segments after it have an earlier segment in view and it has none.</param>
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
