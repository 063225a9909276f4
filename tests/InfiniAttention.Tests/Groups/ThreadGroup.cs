using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>A group whose ranks are threads of the test. It is as slow and obvious as a group can be, and fails if the ranks do not make the same calls.</summary>
internal sealed class ThreadGroup : ISequenceGroup
{
    private readonly Shared shared;

    private ThreadGroup(Shared shared, int rank) => (this.shared, Rank) = (shared, rank);

    public int Rank { get; }

    public int Size => shared.Size;

    /// <summary>Bytes that the ranks gave to exclusive sums and sent to each other.</summary>
    public long Bytes => Interlocked.Read(ref shared.Bytes);

    /// <summary>Runs a function on every rank, and returns the results in their order. The first failure ends all, and is thrown.</summary>
    public static T[] Run<T>(int size, Func<ThreadGroup, T> body)
    {
        using var shared = new Shared(size);
        var results = new T[size];
        var failures = new ConcurrentQueue<Exception>();
        Thread[] threads = [.. Enumerable.Range(0, size).Select(rank => new Thread(
            () =>
            {
                try
                {
                    results[rank] = body(new(shared, rank));
                }
                catch (Exception failure)
                {
                    failures.Enqueue(failure);
                    shared.Ended.Cancel();
                }
            },
            maxStackSize: 16 << 20))];
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        if (failures.FirstOrDefault(failure => failure is not OperationCanceledException) is { } first)
        {
            ExceptionDispatchInfo.Throw(first);
        }

        Assert.Empty(failures);
        Assert.All(shared.Mail.Values, box => Assert.Empty(box));
        return results;
    }

    public Task ExclusiveSum(Tensor x, Tensor sum, bool fromLast = false)
    {
        Interlocked.Add(ref shared.Bytes, x.numel() * x.element_size());
        Tensor[] all = Gather(x, $"ExclusiveSum {fromLast}");
        using var noGrad = no_grad();
        Tensor total = zeros_like(x);
        foreach (Tensor other in fromLast ? all[(Rank + 1)..].Reverse() : all[..Rank])
        {
            total = total + other;
        }

        sum.copy_(total);
        return Task.CompletedTask;
    }

    public void Send(Tensor x, int rank)
    {
        Assert.True(x.is_contiguous());
        Interlocked.Add(ref shared.Bytes, x.numel() * x.element_size());
        shared.Box(Rank, rank).Add(x.detach().clone().DetachFromDisposeScope());
    }

    public void Receive(Tensor x, int rank)
    {
        using var noGrad = no_grad();
        Tensor sent = shared.Box(rank, Rank).Take(shared.Ended.Token);
        Assert.Equal((sent.dtype, string.Join(',', sent.shape)), (x.dtype, string.Join(',', x.shape)));
        x.copy_(sent);
    }

    public void Broadcast(Tensor x, int rank)
    {
        using var noGrad = no_grad();
        x.copy_(Gather(x, $"Broadcast {rank}")[rank]);
    }

    public void Sum(Tensor x)
    {
        using var noGrad = no_grad();
        x.copy_(Gather(x, "Sum").Aggregate((a, b) => a + b));
    }

    private Tensor[] Gather(Tensor x, string what)
    {
        Assert.True(x.is_contiguous());
        shared.Given[Rank] = (x.detach().clone().DetachFromDisposeScope(), $"{what} {x.dtype} {string.Join(',', x.shape)}");
        shared.Barrier.SignalAndWait(shared.Ended.Token);
        (Tensor Tensor, string What)[] given = [.. shared.Given];
        shared.Barrier.SignalAndWait(shared.Ended.Token);
        Assert.All(given, one => Assert.Equal(given[0].What, one.What));
        return [.. given.Select(one => one.Tensor)];
    }

    private sealed class Shared(int size) : IDisposable
    {
        public int Size => size;

        public long Bytes;

        public Barrier Barrier { get; } = new(size);

        public CancellationTokenSource Ended { get; } = new();

        public (Tensor Tensor, string What)[] Given { get; } = new (Tensor, string)[size];

        public ConcurrentDictionary<(int From, int To), BlockingCollection<Tensor>> Mail { get; } = new();

        public BlockingCollection<Tensor> Box(int from, int to) => Mail.GetOrAdd((from, to), _ => []);

        public void Dispose()
        {
            Barrier.Dispose();
            Ended.Dispose();
        }
    }
}
