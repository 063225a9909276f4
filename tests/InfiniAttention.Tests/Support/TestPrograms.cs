using System.Runtime.InteropServices;
using InfiniAttention.Tests.Groups;

namespace InfiniAttention.Tests;

/// <summary>The entry point of the processes that tests start.</summary>
internal static partial class TestPrograms
{
    private static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case [KilledWriter.Command, var path]:
                KilledWriter.Run(path);
                return 0;
            case [RankProgram.Command, .. var further]:
                // Without the handlers of an ordinary exit: those of a coverage run write one file for all ranks, and fail if several end at once.
                int code = RankProgram.Run(further);
                Console.Out.Flush();
                ExitAtOnce(code);
                return code;
            default:
                Console.Error.WriteLine("These are tests: run them with dotnet test.");
                return 1;
        }
    }

    [LibraryImport("libc.so.6", EntryPoint = "_exit")]
    private static partial void ExitAtOnce(int code);
}
