using System.Reflection;
using System.Runtime.InteropServices;
using TorchSharp;

namespace InfiniAttention.Benchmarks;

/// <summary>What a result must state besides its numbers: the machine, the software and the commit that were measured.</summary>
internal static partial class Machine
{
    /// <summary>Processor, cores and threads in use.</summary>
    public static string Description => $"{Processor}, {Environment.ProcessorCount} cores, {torch.get_num_threads()} threads, {RuntimeInformation.OSDescription}";

    /// <summary>The version of libtorch that TorchSharp was built for and that its packages contain.</summary>
    public static string LibTorch => torch.__version__;

    /// <summary>The version of TorchSharp.</summary>
    public static string TorchSharp => typeof(torch).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion.Split('+')[0];

    /// <summary>The C library's version; "none" on other systems.</summary>
    public static string GlibcVersion => OperatingSystem.IsLinux() && NativeLibrary.TryLoad("libc.so.6", out _) ? Marshal.PtrToStringUTF8(GnuGetLibcVersion())! : "none";

    public static string Runtime => RuntimeInformation.FrameworkDescription;

    /// <summary>The commit this program was built from.</summary>
    public static string Commit =>
        typeof(Machine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+') is [_, var commit, ..] ? commit[..10] : "unknown";

    /// <summary>The lines at the top of every results file.</summary>
    public static IEnumerable<string> Provenance(torch.Device device) =>
    [
        $"machine: {Description}",
        $"device: {device}",
        $"libtorch: {LibTorch}",
        $"torchsharp: {TorchSharp}",
        $"runtime: {Runtime}, glibc {GlibcVersion}",
        $"commit: {Commit}",
        $"date: {DateTime.UtcNow:yyyy-MM-dd HH:mm} UTC",
    ];

    /// <summary>bench/results of the repository this program was built in; the current folder if it was moved elsewhere.</summary>
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

    [LibraryImport("libc.so.6", EntryPoint = "gnu_get_libc_version")]
    private static partial nint GnuGetLibcVersion();

    private static string Processor =>
        File.Exists("/proc/cpuinfo") && File.ReadLines("/proc/cpuinfo").FirstOrDefault(line => line.StartsWith("model name", StringComparison.Ordinal)) is { } line
            ? line[(line.IndexOf(':', StringComparison.Ordinal) + 2)..]
            : RuntimeInformation.ProcessArchitecture.ToString();
}
