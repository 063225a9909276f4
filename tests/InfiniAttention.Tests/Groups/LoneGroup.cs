using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A group of one rank, which creates no tensor of its own.</summary>
internal sealed class LoneGroup : ISequenceGroup
{
    public int Rank => 0;

    public int Size => 1;

    public Task ExclusiveSum(Tensor x, Tensor sum, bool fromLast = false)
    {
        sum.bytes.Clear();
        return Task.CompletedTask;
    }

    public void Send(Tensor x, int rank) => throw new InvalidOperationException($"There is no rank {rank}.");

    public void Receive(Tensor x, int rank) => throw new InvalidOperationException($"There is no rank {rank}.");

    public void Broadcast(Tensor x, int rank)
    {
    }

    public void Sum(Tensor x)
    {
    }
}
