using System.Runtime.InteropServices;

namespace InfiniAttention;

/// <summary>MPI.NET asks for Microsoft's <c>msmpi.dll</c>; this gives it the MPI library of the system, whose interface is the same.</summary>
internal static class MpiLibrary
{
    private const string Variable = "INFINIATTENTION_MPI";
    private const string Wanted = "msmpi.dll";

    private static readonly string[] Names = ["libmpich.so.12", "libmpi.so.12"];

    private static readonly Lazy<nint> Handle = new(Load);

    /// <summary>Finds the library.</summary>
    /// <exception cref="DllNotFoundException">There is none; the message says how to get one.</exception>
    public static void Find() => _ = Handle.Value;

    private static nint Load()
    {
        if (OperatingSystem.IsWindows())
        {
            return 0; // msmpi.dll itself
        }

        string[] names = Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } given ? [given] : Names;
        foreach (var name in names)
        {
            if (NativeLibrary.TryLoad(name, out var handle))
            {
                NativeLibrary.SetDllImportResolver(typeof(MPI.Communicator).Assembly, (wanted, _, _) => wanted == Wanted ? handle : 0);
                return handle;
            }
        }

        throw new DllNotFoundException(
            $"No MPI library found (tried {string.Join(", ", names)}). Install MPICH (Debian and Ubuntu: apt install mpich), or name the file of another library "
                + $"of MPICH's binary interface in the environment variable {Variable}. Open MPI has another interface and does not work.");
    }
}
