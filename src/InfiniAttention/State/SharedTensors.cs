using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Tensors that several states hold; freed when the last one releases them.</summary>
/// <remarks>
/// The ownership rule of the whole library. A <see cref="MemoryState"/> owns what it holds, outside any dispose scope;
/// whoever created or received a state disposes of it, at any time and in any order. A call never changes what a given state holds, and
/// its successor may hold the same tensors, whose holders are counted here. Only one thing is changed in place, the unused end of a
/// <see cref="SegmentBuffer"/>. Everything else that a call creates belongs to its dispose scope.
/// </remarks>
internal abstract class SharedTensors
{
    private int holders = 1;

    /// <summary>Every tensor held, each once.</summary>
    public abstract IEnumerable<Tensor> Tensors { get; }

    /// <summary>Adds a holder, which must call <see cref="Release"/>.</summary>
    public void Hold() => Interlocked.Increment(ref holders);

    /// <summary>Removes a holder, and frees the tensors if it was the last.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref holders) == 0)
        {
            Free();
        }
    }

    /// <summary>Called once, when the tensors have no holder any more.</summary>
    protected virtual void Free()
    {
        foreach (var tensor in Tensors)
        {
            tensor.Dispose();
        }
    }
}
