using System.Collections.Concurrent;

namespace LongContext;

/// <summary>
/// Runs tasks on a fixed set of threads that live as long as the scheduler. libtorch and the C library keep memory for every thread that ever
/// called them, so work that moves from thread to thread uses more and more memory.
/// </summary>
public sealed class FixedThreads : TaskScheduler, IDisposable
{
    private readonly BlockingCollection<Task> tasks = [];
    private readonly List<Thread> threads;

    public FixedThreads(int number)
    {
        threads = [.. Enumerable.Range(0, number).Select(_ => new Thread(Work) { IsBackground = true })];
        threads.ForEach(thread => thread.Start());
    }

    public override int MaximumConcurrencyLevel => threads.Count;

    public void Dispose()
    {
        tasks.CompleteAdding();
        threads.ForEach(thread => thread.Join());
        tasks.Dispose();
    }

    protected override void QueueTask(Task task) => tasks.Add(task);

    protected override bool TryExecuteTaskInline(Task task, bool taskWasPreviouslyQueued) => false;

    protected override IEnumerable<Task> GetScheduledTasks() => tasks.ToArray();

    private void Work()
    {
        foreach (var task in tasks.GetConsumingEnumerable())
        {
            TryExecuteTask(task);
        }
    }
}
