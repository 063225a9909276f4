using System.Diagnostics;
using System.Globalization;

namespace InfiniAttention.Benchmarks;

/// <summary>Runs a command of this program as an MPI job on this machine.</summary>
internal static class MpiJob
{
    /// <summary>The numbers that the job's first rank prints.</summary>
    public static double[] Start(int processes, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo("mpiexec", ["-n", $"{processes}", "dotnet", typeof(MpiJob).Assembly.Location, .. arguments]) { RedirectStandardOutput = true })!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0
            ? [.. output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Select(field => double.Parse(field, CultureInfo.InvariantCulture))]
            : throw new MeasurementException($"mpiexec -n {processes} ended with exit code {process.ExitCode}.");
    }
}
