using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>The last of two ranks. Sums are what a function makes of a tensor, and all else fails as if the other rank were lost.</summary>
internal sealed class StubGroup(Action<Tensor> sum) : ISequenceGroup
{
    public const string Lost = "rank 0 is lost";

    public int Rank => 1;

    public int Size => 2;

    /// <summary>The other rank gives the same numbers to every agreement, but its stretch has another length.</summary>
    public static StubGroup OfEquals(double lengthOfOther) => new(table =>
    {
        Span<double> numbers = HostVector.Elements<double>(table), own = numbers[(numbers.Length / 2)..];
        own.CopyTo(numbers);
        if (own is [not 0])
        {
            numbers[0] = lengthOfOther;
        }
    });

    public Task ExclusiveSum(Tensor x, Tensor sum, bool fromLast = false) => throw new IOException(Lost);

    public void Send(Tensor x, int rank) => throw new IOException(Lost);

    public void Receive(Tensor x, int rank) => throw new IOException(Lost);

    public void Broadcast(Tensor x, int rank) => throw new IOException(Lost);

    public void Sum(Tensor x) => sum(x);
}
