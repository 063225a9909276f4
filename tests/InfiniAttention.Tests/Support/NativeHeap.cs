using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Xunit.Abstractions;

namespace InfiniAttention.Tests;

/// <summary>What the C library says of its heap: all arenas together, so that it holds on any thread.</summary>
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

    /// <summary>Bytes that the heap holds and nobody uses.</summary>
    public static long FreeBytes => Free(Info());

    /// <summary>Less than the smallest thing that TorchSharp leaves behind, 32 bytes, in the mean of all calls.</summary>
    public const double Nothing = 16;

    /// <summary>Requires that a call leaves nothing behind until a collection.</summary>
    public static void LeavesNothing(ITestOutputHelper output, string name, Action call, int times = 200)
    {
        double left = LeftBy(call, times);
        output.WriteLine($"{name}: {left:f1} bytes a call");
        Assert.True(left < Nothing, $"{name} leaves {left:f1} bytes a call until a collection");
    }

    /// <summary>The median of several measurements of <see cref="LeftUntilCollection"/>: the test runner's own threads allocate too.</summary>
    /// <param name="action">What is measured.</param>
    /// <param name="times">How often in each measurement: so seldom that no collection comes in between.</param>
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

    /// <summary>Native bytes that an action, done so many times, leaves behind until a garbage collection, for each time; null if a collection came in between.</summary>
    public static double? LeftUntilCollection(Action action, int times)
    {
        for (int i = 0; i < 10; i++)
        {
            action();
        }

        Collect();
        int collections = GC.CollectionCount(0);
        for (int i = 0; i < times; i++)
        {
            action();
        }

        long before = InUse;
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
