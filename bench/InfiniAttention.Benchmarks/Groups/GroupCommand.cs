using Spectre.Console;

namespace InfiniAttention.Benchmarks;

/// <summary>Weak scaling of a layer over the processes of an MPI job on this machine, for both rules.</summary>
internal static class GroupCommand
{
    private const long TokensOfRank = 4 * Setting.Kilo;

    private const long GraphTokens = 128 * Setting.Kilo;

    private static readonly int[] Processes = [1, 2, 4];

    public static void Run(string output)
    {
        CsvFile.MakeFolder(output);
        var results = new List<(MemoryUpdate Update, int Processes, GroupResult Result)>();
        AnsiConsole.Progress().AutoClear(true).Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new ElapsedTimeColumn()).Start(progress =>
        {
            var task = progress.AddTask("mpiexec", maxValue: 2 * Processes.Length);
            foreach (var update in Enum.GetValues<MemoryUpdate>())
            {
                foreach (var processes in Processes)
                {
                    task.Description = $"{update}, {processes} processes";
                    results.Add((update, processes, GroupJob.Start(processes, new(update, TokensOfRank))));
                    task.Increment(1);
                }
            }
        });

        var table = new Table().AddColumns("rule", "processes", "step shared, ms", "step alone, ms", "shared / alone", "exchange, ms", "exchange / step", "KB sent");
        foreach (var (update, processes, result) in results)
        {
            table.AddRow([
                $"{update}", $"{processes}", $"{1000 * result.Shared:0.0}", $"{1000 * result.Alone:0.0}", $"{result.Shared / result.Alone:0.00}",
                $"{1000 * result.Exchange:0.00}", $"{result.Exchange / result.Alone:0.000}", $"{result.Bytes / 1024:0.0}",
            ]);
        }

        AnsiConsole.Write(table);
        var graphs = new Table().AddColumns("processes", "tokens", "seconds", "peak of a process, MB");
        foreach (var processes in Processes)
        {
            var (seconds, bytes) = GraphJob.Start(processes, GraphTokens);
            graphs.AddRow([$"{processes}", $"{GraphTokens}", $"{seconds:0.0}", $"{bytes / (1 << 20):0}"]);
        }

        AnsiConsole.WriteLine("One sequence at once, the graph of its share in each process:");
        AnsiConsole.Write(graphs);
        AnsiConsole.MarkupLineInterpolated($"M and z are {4 * GroupJob.StateNumbers / 1024.0:0.0} KB.");
        CsvFile.Write(output, Machine.Provenance(TorchSharp.torch.CPU), results
            .Select(row => (IReadOnlyList<object?>)[
                row.Update, row.Processes, TokensOfRank, 1000 * row.Result.Shared, 1000 * row.Result.Alone, row.Result.Shared / row.Result.Alone,
                1000 * row.Result.Exchange, row.Result.Bytes,
            ])
            .Prepend(["rule", "processes", "tokens of each", "step shared ms", "step alone ms", "shared / alone", "exchange ms", "bytes sent"]));
        AnsiConsole.MarkupLineInterpolated($"Written to {output}.");
    }
}
