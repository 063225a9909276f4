namespace InfiniAttention;

/// <summary>
/// A collection of young garbage after each window of many tokens: it frees the native memory that a user's model leaves behind (docs/performance.md)
/// before the next window's blocks fragment the heap around it.
/// </summary>
/// <remarks>
/// It never runs while another stream is inside its model: TorchSharp's <c>a + b</c> uses a scalar that nothing keeps alive, and a
/// collection during the call frees it. With several busy streams one window in <see cref="MostMissed"/> waits for the other streams to leave their models.
/// </remarks>
internal readonly struct WindowCollection : IDisposable
{
    /// <summary>Windows with fewer tokens do not collect.</summary>
    private const long LeastTokens = 64;

    private const int MostMissed = 16;

    /// <summary>How long a window waits for others: a model may itself wait for another stream.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(200);

    private static readonly ReaderWriterLockSlim Models = new();

    [ThreadStatic]
    private static int depth;

    private static int missed;

    private readonly long tokens;

    /// <summary>Begins a call of a model, or a call that contains such calls.</summary>
    public WindowCollection(long tokens)
    {
        this.tokens = tokens;
        if (depth++ == 0)
        {
            Models.EnterReadLock();
        }
    }

    /// <summary>Ends the model's call, and collects.</summary>
    public void Dispose()
    {
        if (--depth > 0)
        {
            return;
        }

        Models.ExitReadLock();
        if (tokens >= LeastTokens)
        {
            Collect();
        }
    }

    private static void Collect()
    {
        var isDue = Interlocked.Increment(ref missed) >= MostMissed;
        if (!Models.TryEnterWriteLock(isDue ? Patience : TimeSpan.Zero))
        {
            return;
        }

        try
        {
            missed = 0;
            GC.Collect(0, GCCollectionMode.Forced, blocking: true);
        }
        finally
        {
            Models.ExitWriteLock();
        }
    }
}
