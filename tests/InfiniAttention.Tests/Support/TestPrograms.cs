using InfiniAttention.Tests.Groups;

namespace InfiniAttention.Tests;

/// <summary>The entry point of the processes that tests start.</summary>
internal static class TestPrograms
{
    private static int Main(string[] arguments)
    {
        switch (arguments)
        {
            case [KilledWriter.Command, var path]:
                KilledWriter.Run(path);
                return 0;
            case [RankProgram.Command, .. var further]:
                return RankProgram.Run(further);
            default:
                Console.Error.WriteLine("These are tests: run them with dotnet test.");
                return 1;
        }
    }
}
