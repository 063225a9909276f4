using System.Diagnostics;
using System.Globalization;

namespace LongContext;

/// <summary>The most memory this process held at once, since the last reset if the system can reset it (Linux), otherwise since its start.</summary>
public static class PeakMemory
{
    private const string ClearReferences = "/proc/self/clear_refs";

    public static void Reset()
    {
        GC.Collect();
        if (!File.Exists(ClearReferences))
        {
            return;
        }

        try
        {
            File.WriteAllText(ClearReferences, "5"); // proc(5): resets the peak resident set size
        }
        catch (UnauthorizedAccessException)
        {
            // A sandbox may forbid it: the peak is then that of the whole run, which is never too small.
        }
    }

    public static long Bytes()
    {
        if (!OperatingSystem.IsLinux())
        {
            using var process = Process.GetCurrentProcess();
            return process.PeakWorkingSet64;
        }
        var line = File.ReadLines("/proc/self/status").First(line => line.StartsWith("VmHWM:", StringComparison.Ordinal));
        return 1024 * long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }
}
