using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Tensors that several states hold: freed when the last of them lets go.</summary>
/// <remarks>
/// The rule of ownership, which holds for the whole library. A <see cref="MemoryState"/> owns what it holds, outside any dispose scope;
/// whoever made or was handed a state disposes of it, at any time and in any order. A call never changes what a given state holds, and
/// its successor may hold the same tensors: these are counted here. The one thing that is changed in place is the unused end of a
/// <see cref="SegmentBuffer"/>. Everything else that a call makes belongs to its dispose scope.
/// </remarks>
internal abstract class SharedTensors
{
    private int holders = 1;

    /// <summary>Every tensor held, each once.</summary>
    public abstract IEnumerable<Tensor> Tensors { get; }

    /// <summary>Adds a holder, which must release in its turn.</summary>
    public void Hold() => Interlocked.Increment(ref holders);

    /// <summary>Removes a holder, and frees what is held if it was the last.</summary>
    public void Release()
    {
        if (Interlocked.Decrement(ref holders) == 0)
        {
            Free();
        }
    }

    /// <summary>Called once, when nobody holds the tensors any more.</summary>
    protected virtual void Free()
    {
        foreach (var tensor in Tensors)
        {
            tensor.Dispose();
        }
    }
}
