using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>Peak memory of a job, as the whole process that runs nothing else: a peak cannot be taken back, so each job gets a process.</summary>
internal static class MemoryProbe
{
    /// <summary>The command by which this program runs one job and prints the peak of its own resident memory, in bytes.</summary>
    public const string Command = "peak-memory";

    /// <summary>Runs the job in a process of its own and returns the process's peak resident memory in bytes.</summary>
    public static double PeakOf(MemoryJob job, long tokens, string device)
    {
        var (program, first) = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) != "dotnet"
            ? (path, Array.Empty<string>())
            : ("dotnet", [typeof(MemoryProbe).Assembly.Location]);
        using var process = Process.Start(new ProcessStartInfo(program, [.. first, Command, job.ToString(), $"{tokens}", "--device", device])
        {
            RedirectStandardOutput = true,
        })!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0
            ? double.Parse(output, CultureInfo.InvariantCulture)
            : throw new InvalidOperationException($"The process that measures the memory of {job} over {tokens} tokens ended with exit code {process.ExitCode}.");
    }

    /// <summary>In the process of its own: the job, then the peak.</summary>
    public static int Run(MemoryJob job, long tokens, Device device)
    {
        Do(job, tokens, device);
        using var self = Process.GetCurrentProcess();
        Console.WriteLine(self.PeakWorkingSet64);
        return 0;
    }

    private static void Do(MemoryJob job, long tokens, Device device)
    {
        manual_seed(0);
        using var scope = NewDisposeScope();
        if (job == MemoryJob.Stream)
        {
            using var noGrad = no_grad();
            StreamTargets.Read(new InfiniAttentionModule(LayerShape.Short.Options, device), randn([1, 4 * Setting.Kilo, LayerShape.Short.Width], device: device), tokens);
            return;
        }

        using var model = new TinyLanguageModel(device);
        var (input, target) = TinyLanguageModel.Sample(tokens, device);
        if (job == MemoryJob.Backpropagate)
        {
            TrainingTargets.Backpropagate(model, input, target);
        }
        else
        {
            TrainingTargets.TrainOrdinarily(model, input, target);
        }
    }
}

/// <summary>What a process of its own can be asked to do.</summary>
internal enum MemoryJob
{
    /// <summary>A layer reads the tokens as a stream.</summary>
    Stream,

    /// <summary>A model's exact gradient over the tokens, window by window.</summary>
    Backpropagate,

    /// <summary>The same with one graph over all tokens.</summary>
    OrdinaryTraining,
}
