using System.Diagnostics;
using InfiniAttention.Tests.Groups;
using LongContext.Comparison;

namespace LongContext.Tests;

/// <summary><c>lm spread</c> as a real MPI job.</summary>
public sealed class SpreadTests : IDisposable
{
    private const string System = "norm-delta";

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [MpiFact]
    public void Three_processes_train_what_one_trains_and_one_of_them_prints()
    {
        var trained = Trained();
        var (one, three) = (Spread(trained, 1), Spread(trained, 3));
        Assert.Equal(one.Result.Scores.Nats, three.Result.Scores.Nats, 1e-3);
        Assert.Equal(one.Result.NatsCleared, three.Result.NatsCleared, 1e-3);
        Assert.Single(three.Output.Split('\n'), line => line.Contains("each sequence over 3 processes", StringComparison.Ordinal));
        Assert.Single(three.Output.Split('\n'), line => line.Contains("Held-out text, read as a stream", StringComparison.Ordinal));
    }

    /// <summary>A folder in which the system is trained.</summary>
    private string Trained()
    {
        var path = Directory.CreateDirectory(folder.File("trained")).FullName;
        var experiment = new Experiment
        {
            Sizes = new() { Vocabulary = Chronicle.Vocabulary, Width = 8, Layers = 1, Heads = 1, HeadWidth = 8, SegmentLength = 128 },
            Tokens = SequenceTraining.StepTokens,
            BaseTokens = 16 * 1024,
            HeldOutTokens = 2048,
        };
        experiment.Claim(path);
        ComparisonJob.Base(path).Run(_ => { }, null, CancellationToken.None);
        new ComparisonJob(path, System, 1).Run(_ => { }, null, CancellationToken.None);
        return path;
    }

    private (ComparisonResult Result, string Output) Spread(string trained, int processes)
    {
        var copy = Directory.CreateDirectory(folder.File($"spread-{processes}")).FullName;
        foreach (var file in Directory.GetFiles(trained))
        {
            File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
        }

        using var job = Process.Start(new ProcessStartInfo(
            "mpiexec", ["-n", $"{processes}", "dotnet", typeof(ComparisonJob).Assembly.Location, "lm", "spread", "--system", System, "--length", "16K", "--output", copy])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["OMP_NUM_THREADS"] = "1" },
        })!;
        var errors = job.StandardError.ReadToEndAsync();
        var output = job.StandardOutput.ReadToEnd();
        job.WaitForExit();
        Assert.True(job.ExitCode == 0, output + errors.Result);
        return (ComparisonResult.Load(copy, ComparedSystem.Named(System).AtLength(16 * 1024).Name, 1)!, output);
    }
}
