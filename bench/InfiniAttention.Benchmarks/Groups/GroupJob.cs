using System.Globalization;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>What every process of an MPI job measures of a layer whose sequence the processes share.</summary>
/// <param name="Update">The update rule.</param>
/// <param name="TokensOfRank">Tokens of each process: the sequence grows with their number.</param>
internal sealed record GroupJob(MemoryUpdate Update, long TokensOfRank)
{
    /// <summary>The command that a process runs.</summary>
    public const string Command = "group-job";

    /// <summary>Heads of the layer, each with keys and values of this width.</summary>
    private const long Heads = 4, HeadWidth = 64;

    private const int Rounds = 15;

    /// <summary>Numbers of M and z: K V + K a head.</summary>
    public static long StateNumbers => Heads * ((HeadWidth * HeadWidth) + HeadWidth);

    /// <summary>Runs the job under mpiexec.</summary>
    public static GroupResult Start(int processes, GroupJob job)
    {
        var fields = MpiJob.Start(processes, Command, $"{job.Update}", $"{job.TokensOfRank}");
        return new(fields[0], fields[1], fields[2], fields[3]);
    }

    /// <summary>Measures, and prints on the first rank: the medians of the step shared, the step alone and the exchange, and the bytes that a rank sends in a step, on average.</summary>
    public int Run() => MpiSequenceGroup.Run(group =>
    {
        set_num_threads(1);
        manual_seed(0);
        using var layer = new InfiniAttentionModule(new() { EmbedDim = Heads * HeadWidth, NumHeads = Heads, SegmentLength = 128, Update = Update });
        using var x = randn(1, TokensOfRank, Heads * HeadWidth).requires_grad_(true);
        var clock = new Stopclock(CPU, TimeSpan.Zero, 1);
        var (shared, alone, exchange) = (new double[Rounds], new double[Rounds], new double[Rounds]);
        for (var round = -2; round < Rounds; round++)
        {
            var (first, second, third) = (Together(() => Train(group)), Together(() => Train(null)), Together(Exchange));
            if (round >= 0)
            {
                (shared[round], alone[round], exchange[round]) = (first, second, third);
            }
        }

        using var bytes = tensor([(double)StepBytes(group, () => Train(group))]);
        group.Sum(bytes);
        if (group.Rank == 0)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{Median(shared)} {Median(alone)} {Median(exchange)} {bytes.item<double>() / group.Size}"));
        }

        return 0;

        // The ranks begin together; what counts is the slowest.
        double Together(Action work)
        {
            using var ready = zeros(1);
            group.Sum(ready);
            var seconds = clock.Time(() =>
            {
                work();
                group.Sum(ready);
            });
            return seconds;
        }

        void Train(MpiSequenceGroup? with)
        {
            var (output, state) = with is null ? layer.ForwardFrom(null, x) : layer.ForwardFrom(null, x, with);
            using (state)
            {
                output.sum().backward();
            }
        }

        // What a step exchanges, without the layer: forward and back.
        void Exchange()
        {
            using var stretch = new Stretch(group, 0, hasDocuments: false);
            using Tensor m = zeros(1, Heads, HeadWidth, HeadWidth), z = zeros(1, Heads, HeadWidth);
            using Tensor t = eye(HeadWidth, HeadWidth, ScalarType.Float64).expand(1, Heads, HeadWidth, HeadWidth).contiguous();
            using var noGrad = no_grad();
            for (var direction = 0; direction < 2; direction++)
            {
                StretchScan.Begin(stretch, z, new((null, z), null), isSum: true).End();
                StretchScan.Begin(stretch, m, new((Update == MemoryUpdate.Linear ? null : t, m), null), isSum: Update == MemoryUpdate.Linear).End();
            }
        }
    });

    private static long StepBytes(MpiSequenceGroup group, Action step)
    {
        var before = group.BytesSent;
        step();
        return group.BytesSent - before;
    }

    private static double Median(double[] values) => values.Order().ElementAt(values.Length / 2);
}

/// <summary>Medians of seconds, and bytes.</summary>
/// <param name="Shared">A training step of the layer, its sequence shared by the processes.</param>
/// <param name="Alone">The same with each process's tokens as a sequence of its own.</param>
/// <param name="Exchange">What a step exchanges, without the layer.</param>
/// <param name="Bytes">Bytes that a process gives to scans and sends in a step, on average.</param>
internal sealed record GroupResult(double Shared, double Alone, double Exchange, double Bytes);
