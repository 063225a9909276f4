using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>What every process of an MPI job does that trains on one sequence at once: each holds the graph of its share.</summary>
internal static class GraphJob
{
    /// <summary>The command that a process runs.</summary>
    public const string Command = "graph-job";

    /// <summary>Runs the job: seconds, and the largest peak of a process's resident memory, in bytes.</summary>
    public static (double Seconds, double PeakBytes) Start(int processes, long tokens)
    {
        var fields = MpiJob.Start(processes, Command, $"{tokens}", $"{tokens / processes}");
        return (fields[0], fields[1]);
    }

    /// <summary>Trains, and prints on the first rank.</summary>
    /// <param name="tokens">Tokens of the sequence.</param>
    /// <param name="window">Tokens whose graph a process holds.</param>
    public static int Run(long tokens, long window) => MpiSequenceGroup.Run(group =>
    {
        set_num_threads(1);
        manual_seed(0);
        using var model = new TinyLanguageModel(CPU);
        var (input, target) = TinyLanguageModel.Sample(tokens, CPU);
        using var streamer = new SegmentStreamer(model, group) { WindowTokens = window };
        var seconds = new Stopclock(CPU, TimeSpan.Zero, 1).Time(() => streamer.Backpropagate(input, target, TinyLanguageModel.Loss, LossReduction.Sum));
        using var self = Process.GetCurrentProcess();
        using var peaks = zeros(group.Size, float64);
        peaks[group.Rank] = self.PeakWorkingSet64;
        group.Sum(peaks);
        if (group.Rank == 0)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{seconds} {peaks.max().item<double>()}"));
        }

        return 0;
    });
}
