using System.Globalization;
using System.Runtime;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Xunit.Abstractions;

namespace InfiniAttention.Tests;

/// <summary>Statistics of the C library's heap, summed over all arenas, so that they cover all threads.</summary>
internal static partial class NativeHeap
{
    public static bool IsGlibc { get; } = OperatingSystem.IsLinux() && NativeLibrary.TryLoad("libc.so.6", out _);

    /// <summary>Bytes in use.</summary>
    public static long InUse
    {
        get
        {
            string text = Info();
            return Total(text, "system", "current") - Free(text) + Total(text, "total", "mmap");
        }
    }

    /// <summary>Bytes in use when everything that a collection frees is freed.</summary>
    public static long InUseAfterCollection
    {
        get
        {
            Collect();
            return InUse;
        }
    }

    /// <summary>Bytes that the heap holds but that are not in use.</summary>
    public static long FreeBytes => Free(Info());

    /// <summary>Managed bytes that the runs of a measurement may allocate without a collection, whatever the processor's cache, by which the collector goes.</summary>
    private const long ManagedBytes = 128L << 20;

    /// <summary>Bytes per call that count as nothing: half of the smallest object that TorchSharp leaves behind.</summary>
    public const double Nothing = 16;

    /// <summary>Requires that a call leaves no native bytes that only a collection frees.</summary>
    public static void LeavesNothing(ITestOutputHelper output, string name, Action call, int times = 200)
    {
        double left = LeftBy(call, times);
        output.WriteLine($"{name}: {left:f1} bytes a call");
        Assert.True(left < Nothing, $"{name} leaves {left:f1} bytes a call until a collection");
    }

    /// <summary>The median of several measurements of <see cref="LeftUntilCollection"/>, because the test runner's threads allocate too.</summary>
    /// <param name="action">The action to measure.</param>
    /// <param name="times">Runs per measurement, few enough that no collection happens in between.</param>
    public static double LeftBy(Action action, int times = 200)
    {
        const int Measurements = 15;
        var left = new List<double>();
        for (int attempt = 0; attempt < 10 * Measurements && left.Count < Measurements; attempt++)
        {
            if (LeftUntilCollection(action, times) is { } bytes)
            {
                left.Add(bytes);
            }
        }

        Assert.Equal(Measurements, left.Count);
        return left.Order().ElementAt(Measurements / 2);
    }

    /// <summary>Native bytes that each run of an action leaves behind until a garbage collection; null if a collection happened during the runs.</summary>
    public static double? LeftUntilCollection(Action action, int times)
    {
        for (int i = 0; i < 10; i++)
        {
            action();
        }

        Collect();
        if (!GC.TryStartNoGCRegion(ManagedBytes))
        {
            return null;
        }

        int collections = GC.CollectionCount(0);
        long before;
        try
        {
            for (int i = 0; i < times; i++)
            {
                action();
            }

            before = InUse;
        }
        finally
        {
            if (GCSettings.LatencyMode == GCLatencyMode.NoGCRegion)
            {
                GC.EndNoGCRegion();
            }
        }

        if (GC.CollectionCount(0) != collections)
        {
            return null;
        }

        Collect();
        return (before - InUse) / (double)times;
    }

    public static void Collect()
    {
        for (int i = 0; i < 2; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    private static long Free(string text) => Total(text, "total", "fast") + Total(text, "total", "rest");

    /// <summary>The last such entry is that of all arenas.</summary>
    private static long Total(string text, string entry, string type) =>
        long.Parse(Regex.Matches(text, $"<{entry} type=\"{type}\"[^/]*size=\"([0-9]+)\"")[^1].Groups[1].Value, CultureInfo.InvariantCulture);

    private static string Info()
    {
        nint stream = OpenMemoryStream(out nint buffer, out _);
        if (MallocInfo(0, stream) != 0 || Close(stream) != 0)
        {
            throw new InvalidOperationException("malloc_info failed.");
        }

        string text = Marshal.PtrToStringUTF8(buffer)!;
        Free(buffer);
        return text;
    }

    [LibraryImport("libc.so.6", EntryPoint = "open_memstream")]
    private static partial nint OpenMemoryStream(out nint buffer, out nint size);

    [LibraryImport("libc.so.6", EntryPoint = "malloc_info")]
    private static partial int MallocInfo(int options, nint stream);

    [LibraryImport("libc.so.6", EntryPoint = "fclose")]
    private static partial int Close(nint stream);

    [LibraryImport("libc.so.6", EntryPoint = "free")]
    private static partial void Free(nint buffer);
}
