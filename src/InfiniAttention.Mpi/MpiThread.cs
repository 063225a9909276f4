using System.Collections.Concurrent;

namespace InfiniAttention;

/// <summary>The thread on which MPI is called. Work is done in the order in which it was given.</summary>
internal sealed class MpiThread : IDisposable
{
    private readonly BlockingCollection<Action> work = [];
    private readonly Thread thread;

    public MpiThread()
    {
        thread = new(() =>
        {
            foreach (var each in work.GetConsumingEnumerable())
            {
                each();
            }
        })
        { IsBackground = true, Name = "MPI" };
        thread.Start();
    }

    /// <summary>Begins an action; the task has its exception.</summary>
    public Task Start(Action action)
    {
        var done = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        work.Add(() =>
        {
            try
            {
                action();
                done.SetResult();
            }
            catch (Exception failure)
            {
                done.SetException(failure);
            }
        });
        return done.Task;
    }

    /// <summary>Does an action and waits for it.</summary>
    public void Run(Action action) => Start(action).GetAwaiter().GetResult();

    /// <summary>Computes a value and waits for it.</summary>
    public T Run<T>(Func<T> function)
    {
        T? result = default;
        Run(() => { result = function(); });
        return result!;
    }

    public void Dispose()
    {
        work.CompleteAdding();
        thread.Join();
        work.Dispose();
    }
}
