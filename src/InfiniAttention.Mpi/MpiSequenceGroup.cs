using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The processes of an MPI job as an <see cref="ISequenceGroup"/>. CPU tensors are sent from and received into their own memory, those of a GPU go through
/// the host's. All of MPI is called on one thread of this class, so that a scan runs while the caller computes.
/// </summary>
/// <remarks>
/// Needs MPICH (Debian: <c>apt install mpich</c>) or a library of the same binary interface (Intel MPI, MVAPICH, Cray), not Open MPI. It is
/// <c>libmpich.so.12</c>, or the file that the environment variable <c>INFINIATTENTION_MPI</c> names.
/// </remarks>
public sealed class MpiSequenceGroup : ISequenceGroup, IDisposable
{
    /// <summary>mpiexec forwards what a process writes a moment later, and an abort drops what it has not forwarded: then the message would be lost.</summary>
    private static readonly TimeSpan BeforeAbort = TimeSpan.FromMilliseconds(500);

    private readonly MpiThread thread = new();
    private readonly MPI.Environment environment;
    private readonly int world = MPI.Unsafe.MPI_COMM_WORLD;
    private readonly int reversed;

    private MpiSequenceGroup()
    {
        (environment, Rank, Size, reversed) = thread.Run(() =>
        {
            var arguments = Array.Empty<string>();
            var started = new MPI.Environment(ref arguments, MPI.Threading.Funneled);
            MpiBuffer.Check(MPI.Unsafe.MPI_Comm_rank(world, out var rank));
            MpiBuffer.Check(MPI.Unsafe.MPI_Comm_size(world, out var size));
            MpiBuffer.Check(MPI.Unsafe.MPI_Comm_split(world, 0, size - rank, out var backwards));
            return (started, rank, size, backwards);
        });
    }

    /// <inheritdoc/>
    public int Rank { get; }

    /// <inheritdoc/>
    public int Size { get; }

    /// <summary>Bytes that this process has given to scans and has sent to single ranks; sums and broadcasts are not counted.</summary>
    public long BytesSent { get; private set; }

    /// <summary>
    /// Runs a program as one process of an MPI job. If it throws on any rank, that rank writes the exception to the standard error and ends the
    /// processes of all ranks, which may be waiting for it, with exit code 1.
    /// </summary>
    /// <param name="program">What every rank runs. Without <c>mpiexec</c> there is one rank.</param>
    /// <returns>What the program returns.</returns>
    /// <exception cref="DllNotFoundException">There is no MPI library; the message says how to get one.</exception>
    public static T Run<T>(Func<MpiSequenceGroup, T> program)
    {
        ArgumentNullException.ThrowIfNull(program);
        using var group = Start();
        try
        {
            return program(group);
        }
        catch (Exception failure) when (group.Size > 1)
        {
            group.Abort(failure);
            throw;
        }
    }

    /// <summary>Starts MPI, once in a process. <see cref="Run"/> also ends the other processes if one fails.</summary>
    /// <exception cref="DllNotFoundException">There is no MPI library; the message says how to get one.</exception>
    public static MpiSequenceGroup Start()
    {
        MpiLibrary.Find();
        return new();
    }

    /// <inheritdoc/>
    public Task ExclusiveSum(Tensor x, Tensor sum, bool fromLast = false)
    {
        MpiBuffer given = MpiBuffer.OfNumbers(x, nameof(x)), written = MpiBuffer.OfNumbers(sum, nameof(sum));
        BytesSent += given.Bytes;
        return thread.Start(() =>
        {
            MpiBuffer.Exchange(given, written, (from, to, count) => MPI.Unsafe.MPI_Exscan(from, to, count, given.Type, MPI.Unsafe.MPI_SUM, fromLast ? reversed : world));
            if (Rank == (fromLast ? Size - 1 : 0))
            {
                written.Clear(); // MPI leaves it undefined
            }

            written.Return();
        });
    }

    /// <inheritdoc/>
    public void Send(Tensor x, int rank)
    {
        CheckRank(rank);
        var given = MpiBuffer.OfBytes(x, nameof(x));
        BytesSent += given.Bytes;
        thread.Run(() => MpiBuffer.Exchange(given, given, (from, _, count) => MPI.Unsafe.MPI_Send(from, count, given.Type, rank, 0, world)));
    }

    /// <inheritdoc/>
    public void Receive(Tensor x, int rank)
    {
        CheckRank(rank);
        var written = MpiBuffer.OfBytes(x, nameof(x));
        thread.Run(() =>
        {
            MpiBuffer.Exchange(written, written, (to, _, count) => MPI.Unsafe.MPI_Recv(to, count, written.Type, rank, 0, world, out var _));
            written.Return();
        });
    }

    /// <inheritdoc/>
    public void Broadcast(Tensor x, int rank)
    {
        CheckRank(rank);
        var written = MpiBuffer.OfBytes(x, nameof(x));
        thread.Run(() =>
        {
            MpiBuffer.Exchange(written, written, (at, _, count) => MPI.Unsafe.MPI_Bcast(at, count, written.Type, rank, world));
            written.Return();
        });
    }

    /// <inheritdoc/>
    public void Sum(Tensor x)
    {
        // Added on one rank and sent to all, because an all-reduce may add in another order on each rank.
        using var own = x.detach().clone();
        MpiBuffer given = MpiBuffer.OfNumbers(own, nameof(x)), written = MpiBuffer.OfNumbers(x, nameof(x));
        thread.Run(() =>
        {
            MpiBuffer.Exchange(given, written, (from, to, count) => MPI.Unsafe.MPI_Reduce(from, to, count, given.Type, MPI.Unsafe.MPI_SUM, 0, world));
            MpiBuffer.Exchange(written, written, (at, _, count) => MPI.Unsafe.MPI_Bcast(at, count, written.Type, 0, world));
            written.Return();
        });
    }

    /// <summary>Ends MPI in this process.</summary>
    public void Dispose()
    {
        thread.Run(environment.Dispose);
        thread.Dispose();
    }

    private void Abort(Exception failure)
    {
        Console.Error.WriteLine($"Rank {Rank} of {Size}: {failure}");
        Console.Error.Flush();
        Thread.Sleep(BeforeAbort);
        _ = MPI.Unsafe.MPI_Abort(world, 1); // from this thread, because that of MPI may be waiting for another rank
    }

    private void CheckRank(int rank)
    {
        if (rank < 0 || rank >= Size)
        {
            throw new ArgumentOutOfRangeException(nameof(rank), rank, $"rank is {rank}; the group has the ranks 0 to {Size - 1}.");
        }
    }
}
