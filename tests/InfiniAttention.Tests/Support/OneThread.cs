using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace InfiniAttention.Tests;

/// <summary>
/// Gives libtorch one thread, unless OMP_NUM_THREADS says otherwise. Its threads wait for one another by spinning, which for
/// tensors as small as those of the tests costs ten times what it gains, and more on a busy machine.
/// </summary>
internal static class OneThread
{
    private const string Variable = "OMP_NUM_THREADS";

    /// <summary>Runs before libtorch is loaded, which reads the variable once.</summary>
    [ModuleInitializer]
    internal static void Set()
    {
        if (!OperatingSystem.IsLinux() || Environment.GetEnvironmentVariable(Variable) is not null)
        {
            return;
        }

        Environment.SetEnvironmentVariable(Variable, "1");
        _ = SetNativeVariable(Variable, "1", 0); // on Linux .NET does not pass its variables on to native code
    }

    [DllImport("libc", EntryPoint = "setenv", CharSet = CharSet.Ansi, BestFitMapping = false, ThrowOnUnmappableChar = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    [SuppressMessage("Interoperability", "SYSLIB1054", Justification = "Generated marshalling would need unsafe code.")]
    private static extern int SetNativeVariable(string name, string value, int overwrite);
}
