using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Room for the keys and values of one segment. Tokens are only ever appended: a state sees the first tokens, as many as it knows of,
/// and whoever stands at the end may write behind it. So states that come after each other share a buffer, and a second successor of
/// one state, which finds the end taken, gets a buffer of its own.
/// </summary>
/// <remarks>B batch, C room in tokens, G key/value heads, K key width, V value width.</remarks>
internal sealed class SegmentBuffer : SharedTensors
{
    private readonly Tensor keys;         // (B, 1, C, G, K)
    private readonly Tensor? rotatedKeys; // (B, 1, C, G, K)
    private readonly Tensor values;       // (B, 1, C, G, V)
    private long taken;

    /// <summary>Keeps tensors as they are, all of them taken.</summary>
    public SegmentBuffer(Tensor keys, Tensor? rotatedKeys, Tensor values)
        : this(keys, rotatedKeys, values, keys.size(2))
    {
    }

    private SegmentBuffer(Tensor keys, Tensor? rotatedKeys, Tensor values, long taken)
    {
        (this.keys, this.rotatedKeys, this.values, this.taken) = (keys, rotatedKeys, values, taken);
        foreach (var tensor in Tensors)
        {
            tensor.DetachFromDisposeScope();
        }
    }

    public ScalarType Type => keys.dtype;

    public bool HasRotatedKeys => rotatedKeys is not null;

    /// <inheritdoc/>
    public override IEnumerable<Tensor> Tensors => rotatedKeys is null ? [keys, values] : [keys, rotatedKeys, values];

    /// <summary>Room for <paramref name="capacity"/> tokens like the given ones.</summary>
    public static SegmentBuffer Like(SegmentTokens tokens, long capacity)
    {
        // Normal tensors even in inference mode, so that a stream may leave that mode.
        using var noInference = is_inference_mode_enabled() ? inference_mode(false) : null;
        using var noGrad = no_grad();
        return new(Room(tokens.Keys), tokens.RotatedKeys is null ? null : Room(tokens.RotatedKeys), Room(tokens.Values), 0);

        Tensor Room(Tensor like) => empty([like.size(0), 1, capacity, like.size(3), like.size(4)], like.dtype, like.device);
    }

    /// <summary>Writes tokens behind the first <paramref name="length"/>, unless there is no room or somebody else has.</summary>
    public bool TryAppend(SegmentTokens tokens, long length)
    {
        var end = length + tokens.Length;
        if (end > keys.size(2) || Interlocked.CompareExchange(ref taken, end, length) != length)
        {
            return false;
        }

        Write(keys, tokens.Keys);
        Write(values, tokens.Values);
        if (rotatedKeys is not null)
        {
            Write(rotatedKeys, tokens.RotatedKeys!);
        }

        return true;

        void Write(Tensor buffer, Tensor added)
        {
            using var place = buffer.narrow(2, length, added.size(2));
            place.copy_(added);
        }
    }

    /// <summary>The first tokens, as views that belong to the caller's dispose scope.</summary>
    public SegmentTokens First(long length, SegmentMarks marks) => new(
        keys.narrow(2, 0, length), rotatedKeys?.narrow(2, 0, length), values.narrow(2, 0, length), marks);
}
