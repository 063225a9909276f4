using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;

namespace InfiniAttention.Benchmarks;

/// <summary>What a result must say beside its numbers: where, on what and of which commit it was measured.</summary>
internal static class Machine
{
    /// <summary>Processor, cores and threads in use.</summary>
    public static string Description => $"{Processor}, {Environment.ProcessorCount} cores, {torch.get_num_threads()} threads, {RuntimeInformation.OSDescription}";

    /// <summary>The version of libtorch, from the name of the loaded file where it has one: TorchSharp names the one it was written for, and may run on another.</summary>
    public static string LibTorch
    {
        get
        {
            const string Library = "libtorch_cpu.so.";
            var named = torch.__version__; // loads the library
            return Process.GetCurrentProcess().Modules.Cast<ProcessModule>().Select(module => module.ModuleName)
                .FirstOrDefault(name => name.StartsWith(Library, StringComparison.Ordinal))?[Library.Length..] ?? named;
        }
    }

    /// <summary>Where TorchSharp came from, and its version; the subset has none of its own.</summary>
    public static string TorchSharp =>
        TorchSource == "subset" ? TorchSource : $"{TorchSource} {typeof(torch).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0]}";

    public static string Runtime => RuntimeInformation.FrameworkDescription;

    /// <summary>The commit this program was built from.</summary>
    public static string Commit =>
        typeof(Machine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+') is [_, var commit, ..] ? commit[..10] : "unknown";

    /// <summary>The lines that head every file of results.</summary>
    public static IEnumerable<string> Provenance(torch.Device device) =>
    [
        $"machine: {Description}",
        $"device: {device}",
        $"libtorch: {LibTorch}",
        $"torchsharp: {TorchSharp}",
        $"runtime: {Runtime}",
        $"commit: {Commit}",
        $"date: {DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC",
    ];

    /// <summary>bench/results of the repository this program was built in; the current folder where it was moved elsewhere.</summary>
    public static string ResultsFolder
    {
        get
        {
            for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
            {
                if (File.Exists(Path.Combine(folder.FullName, "InfiniAttention.sln")))
                {
                    return Directory.CreateDirectory(Path.Combine(folder.FullName, "bench", "results")).FullName;
                }
            }

            return Environment.CurrentDirectory;
        }
    }

    /// <summary>package, assembly or subset.</summary>
    private static string TorchSource { get; } =
        typeof(Machine).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(entry => entry.Key == nameof(TorchSource)).Value!;

    private static string Processor =>
        File.Exists("/proc/cpuinfo") && File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal)) is { } line
            ? line[(line.IndexOf(':', StringComparison.Ordinal) + 2)..]
            : RuntimeInformation.ProcessArchitecture.ToString();
}
