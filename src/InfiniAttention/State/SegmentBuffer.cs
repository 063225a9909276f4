using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Room for the keys and values of one segment. Tokens are only appended: each state sees as many of the first tokens as it has,
/// and a state at the end may write after it. So consecutive states share a buffer, and a second successor of
/// the same state, which finds the end taken, gets its own buffer.
/// </summary>
/// <remarks>B batch, C room in tokens, G key/value heads, K key width, V value width.</remarks>
internal sealed class SegmentBuffer : SharedTensors
{
    private readonly SegmentTokens room; // of C tokens
    private long taken;

    /// <summary>A full buffer of the given tensors.</summary>
    public SegmentBuffer(SegmentTokens tokens)
        : this(tokens, tokens.Length)
    {
    }

    private SegmentBuffer(SegmentTokens room, long taken)
    {
        (this.room, this.taken) = (room with { Marks = SegmentMarks.None, Earlier = null }, taken);
        foreach (var tensor in Tensors)
        {
            tensor.DetachFromDisposeScope();
        }
    }

    public ScalarType Type => room.Keys.dtype;

    /// <summary>Whether the local attention uses other keys than the memory, and whether the next segment uses other keys again.</summary>
    public (bool Local, bool Passed) OtherKeys => (room.OtherLocalKeys is not null, room.OtherPassedKeys is not null);

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Tensors => room.Heads;

    /// <summary>Room for <paramref name="capacity"/> tokens like the given ones.</summary>
    public static SegmentBuffer Like(SegmentTokens tokens, long capacity)
    {
        using var normal = new NormalTensors();
        return new(tokens.Map(like => empty([like.size(0), 1, capacity, like.size(3), like.size(4)], like.dtype, like.device)), 0);
    }

    /// <summary>Writes tokens after the first <paramref name="length"/>; false if there is no room or another state has already written there.</summary>
    public bool TryAppend(SegmentTokens tokens, long length)
    {
        var end = length + tokens.Length;
        if (end > room.Length || Interlocked.CompareExchange(ref taken, end, length) != length)
        {
            return false;
        }

        foreach (var (buffer, added) in room.Heads.Zip(tokens.Heads))
        {
            using var place = buffer.narrow(2, length, added.size(2));
            place.copy_(added);
        }

        return true;
    }

    /// <summary>The first tokens, as views that belong to the caller's dispose scope.</summary>
    public SegmentTokens First(long length, SegmentMarks marks) => room.Map(tensor => tensor.narrow(2, 0, length)) with { Marks = marks };
}
