namespace InfiniAttention.Tests.Groups;

/// <summary>A test that starts <c>mpiexec</c>; skipped where there is none, with the way to get it.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class MpiFactAttribute : FactAttribute
{
    public MpiFactAttribute() => Skip = Mpi.Missing;
}

/// <summary>The same for a test that needs 5 GiB of memory: it runs only if it is asked for.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class LargeMpiFactAttribute : FactAttribute
{
    public LargeMpiFactAttribute() =>
        Skip = Mpi.Missing ?? (Environment.GetEnvironmentVariable("INFINIATTENTION_LARGE_TESTS") == "1" ? null : "It needs 5 GiB of memory: set INFINIATTENTION_LARGE_TESTS to 1.");
}

/// <summary>The same for a test with cases.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class MpiTheoryAttribute : TheoryAttribute
{
    public MpiTheoryAttribute() => Skip = Mpi.Missing;
}

internal static class Mpi
{
    /// <summary>Null if there is an mpiexec.</summary>
    public static string? Missing { get; } =
        (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator).Any(folder => File.Exists(Path.Combine(folder, "mpiexec")))
            ? null : "There is no mpiexec: install MPICH (Debian and Ubuntu: apt install mpich).";
}
