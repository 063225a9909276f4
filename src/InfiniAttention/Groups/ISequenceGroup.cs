using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Processes among which one sequence is spread: each computes a stretch of whole segments, in the order of the ranks, and only the memory
/// crosses from one to the next. <c>InfiniAttention.Mpi</c> has a group on MPI; any other transport is an implementation of this interface.
/// </summary>
/// <remarks>
/// Every rank makes the same calls in the same order, each on tensors of the same shape and type. Tensors are contiguous and may be on a
/// GPU. A group is used by one thread at a time. An error on one rank leaves the others waiting: the transport has to end them.
/// </remarks>
public interface ISequenceGroup
{
    /// <summary>The place of this process, from 0 to <see cref="Size"/> - 1.</summary>
    int Rank { get; }

    /// <summary>The number of processes.</summary>
    int Size { get; }

    /// <summary>Begins to compute the sum of the <paramref name="x"/> of all ranks before this one: an exclusive scan. Other calls may wait until it is complete.</summary>
    /// <param name="x">float32 or float64; it must not be changed before the task is complete.</param>
    /// <param name="sum">Where the sum is written, like x; 0 on the rank that has none before it.</param>
    /// <param name="fromLast">Sum over the ranks after this one: the gradient of the other direction.</param>
    Task ExclusiveSum(Tensor x, Tensor sum, bool fromLast = false);

    /// <summary>Sends a tensor of any type to a rank, which receives it.</summary>
    void Send(Tensor x, int rank);

    /// <summary>Receives what a rank sends.</summary>
    /// <param name="x">Where it is written; it has the shape and type of what is sent.</param>
    /// <param name="rank">The rank that sends.</param>
    void Receive(Tensor x, int rank);

    /// <summary>Overwrites the <paramref name="x"/> of every rank with that of one, of any type.</summary>
    void Broadcast(Tensor x, int rank);

    /// <summary>Overwrites the <paramref name="x"/> of every rank with the sum of all; float32 or float64, with the same result on every rank.</summary>
    void Sum(Tensor x);
}
