using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>What a separate process can be asked to do.</summary>
internal enum Workload
{
    /// <summary>A layer reads the tokens as a stream.</summary>
    Stream,

    /// <summary>The same with a layer that has <see cref="InfiniAttentionOptions.MemoryNorm"/>.</summary>
    StreamWithNorm,

    /// <summary>A plain attention layer reads the tokens in one call.</summary>
    FullAttention,

    /// <summary>A model's exact gradient over the tokens, window by window.</summary>
    Backpropagate,

    /// <summary>The same with one graph over all tokens.</summary>
    OrdinaryTraining,
}

/// <summary>What a job took: its time after a short warm-up, and the peak resident memory of its process, which did nothing else.</summary>
internal readonly record struct JobResult(double Seconds, double PeakBytes);

/// <summary>Runs each job in a process of its own, because the peak memory of a process cannot be reset.</summary>
internal static class JobProcess
{
    /// <summary>The command that runs one job and prints what it took.</summary>
    public const string Command = "job";

    private const long WarmUpTokens = 4 * Setting.Kilo;

    /// <summary>After this many tokens a process holds all the memory that a stream of any length needs; until then its heap still grows.</summary>
    private const long StreamWarmUpTokens = 64 * Setting.Kilo;

    /// <summary>Runs the job in a process of its own.</summary>
    public static JobResult Start(Workload workload, long tokens, string device)
    {
        using var process = Begin([Command, workload.ToString(), $"{tokens}", "--device", device]);
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new MeasurementException($"The process of {workload} over {tokens} tokens ended with exit code {process.ExitCode}.");
        }

        var fields = output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        return new(double.Parse(fields[0], CultureInfo.InvariantCulture), double.Parse(fields[1], CultureInfo.InvariantCulture));
    }

    /// <summary>Starts this program with other arguments.</summary>
    public static Process Begin(string[] arguments)
    {
        var (program, first) = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) != "dotnet"
            ? (path, Array.Empty<string>())
            : ("dotnet", [typeof(JobProcess).Assembly.Location]);
        var start = new ProcessStartInfo(program, [.. first, .. arguments]) { RedirectStandardOutput = true };
        ClearSettings(start);
        return Process.Start(start)!;
    }

    /// <summary>Removes the settings of the C library's heap, of .NET and of libtorch's threads from the environment, as in a user's process.</summary>
    private static void ClearSettings(ProcessStartInfo start)
    {
        foreach (var name in start.Environment.Keys.Where(name =>
            name.StartsWith("MALLOC_", StringComparison.Ordinal) || name.StartsWith("OMP_", StringComparison.Ordinal)
            || name is "GLIBC_TUNABLES" or "DOTNET_GCgen0size" or "DOTNET_TieredCompilation" or "DOTNET_gcServer").ToArray())
        {
            start.Environment.Remove(name);
        }
    }

    /// <summary>Runs the job in this process and prints what it took.</summary>
    public static int Run(Workload workload, long tokens, Device device)
    {
        manual_seed(0);
        using var scope = NewDisposeScope();
        var clock = new Stopclock(device, TimeSpan.Zero, 1);
        var work = Prepare(workload, tokens, device);
        clock.Time(() => work(Math.Min(tokens, IsStream(workload) ? StreamWarmUpTokens : WarmUpTokens)));
        var seconds = clock.Time(() => work(tokens));
        using var self = Process.GetCurrentProcess();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{seconds:R} {self.PeakWorkingSet64}"));
        return 0;
    }

    private static bool IsStream(Workload workload) => workload is Workload.Stream or Workload.StreamWithNorm;

    private static Action<long> Prepare(Workload workload, long longest, Device device)
    {
        if (workload is Workload.Backpropagate or Workload.OrdinaryTraining)
        {
            var model = new TinyLanguageModel(device);
            var (input, target) = TinyLanguageModel.Sample(longest, device);
            Action<TinyLanguageModel, Tensor, Tensor> train = workload == Workload.Backpropagate ? TrainingTargets.Backpropagate : TrainingTargets.TrainOrdinarily;
            return tokens => train(model, input.narrow(1, 0, tokens), target.narrow(1, 0, tokens));
        }

        var layer = new InfiniAttentionModule(LayerShape.Short.Options with { MemoryNorm = workload == Workload.StreamWithNorm }, device);
        layer.eval();
        var x = randn([1, IsStream(workload) ? WarmUpTokens : longest, LayerShape.Short.Width], device: device);
        var attention = IsStream(workload) ? null : new CausalAttention(new(layer));
        return tokens =>
        {
            using var noGrad = no_grad();
            if (attention is null)
            {
                StreamTargets.Read(layer, x, tokens);
            }
            else
            {
                attention.Forward(x.narrow(1, 0, tokens)).Dispose();
            }
        };
    }
}
