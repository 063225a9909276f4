using System.Collections.Concurrent;

namespace LongContext.Tests;

public class FixedThreadsTests
{
    [Fact]
    public void All_work_is_done_on_the_same_few_threads()
    {
        var (done, used) = (0, new ConcurrentDictionary<int, bool>());
        using (var threads = new FixedThreads(2))
        {
            var parallel = new ParallelOptions { MaxDegreeOfParallelism = 2, TaskScheduler = threads };
            for (var round = 0; round < 20; round++)
            {
                Parallel.ForEach(Enumerable.Range(0, 10), parallel, _ =>
                {
                    used[Environment.CurrentManagedThreadId] = true;
                    Interlocked.Increment(ref done);
                    Thread.Sleep(1);
                });
            }
        }

        Assert.Equal(200, done);
        Assert.InRange(used.Count, 1, 2);
        Assert.DoesNotContain(Environment.CurrentManagedThreadId, used.Keys);
    }

    [Fact]
    public void An_exception_on_a_worker_thread_reaches_the_caller()
    {
        using var threads = new FixedThreads(1);
        var parallel = new ParallelOptions { TaskScheduler = threads };
        var error = Assert.Throws<AggregateException>(() => Parallel.ForEach([1, 2], parallel, number => throw new InvalidDataException($"{number}")));
        Assert.IsType<InvalidDataException>(error.InnerException);
    }
}
