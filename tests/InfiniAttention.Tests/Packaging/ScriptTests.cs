using System.Diagnostics;
using InfiniAttention.Tests.Documentation;

namespace InfiniAttention.Tests.Packaging;

/// <summary>The scripts say in one sentence which SDK is missing.</summary>
public sealed class ScriptTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Theory]
    [InlineData("run.sh")]
    [InlineData("test.sh")]
    [InlineData("eng/pack.sh")]
    public void Without_an_SDK_they_say_where_to_get_it(string script)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var (code, output) = Run(script, null);
        Assert.Equal(1, code);
        Assert.Equal("The .NET SDK 10 is needed and dotnet is not on the PATH: install it from https://dotnet.microsoft.com/download.", output);
    }

    [Theory]
    [InlineData("run.sh", "8.0.404 [/somewhere/sdk]\n9.0.100 [/somewhere/sdk]", "8.0.404 9.0.100")]
    [InlineData("test.sh", "", "")]
    public void With_an_SDK_that_is_too_old_they_say_which_were_found(string script, string listed, string named)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        var (code, output) = Run(script, listed);
        Assert.Equal(1, code);
        Assert.Equal($"The .NET SDK 10 is needed; dotnet has: {named}. Install it from https://dotnet.microsoft.com/download.", output);
    }

    /// <summary>Runs a script from another folder, with a dotnet on the PATH that lists the given SDKs, or with no dotnet.</summary>
    private (int Code, string Output) Run(string script, string? sdks)
    {
        foreach (var tool in new[] { "bash", "dirname", "cut", "paste", "grep", "mktemp", "rm", "env" })
        {
            var real = new[] { "/bin", "/usr/bin" }.Select(place => Path.Combine(place, tool)).First(File.Exists);
            File.CreateSymbolicLink(Path.Combine(folder, tool), real);
        }

        if (sdks is not null)
        {
            var dotnet = Path.Combine(folder, "dotnet");
            File.WriteAllText(dotnet, $"#!/bin/bash\n[[ $1 == --list-sdks ]] || exit 9\nprintf '%s\\n' '{sdks}' | grep . || true\n");
            using var chmod = Process.Start("chmod", ["+x", dotnet])!;
            chmod.WaitForExit();
        }

        var start = new ProcessStartInfo(Path.Combine(folder, "bash"), [Path.Combine(Repository.Root, script)])
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["PATH"] = folder;
        using var process = Process.Start(start)!;
        var output = process.StandardOutput.ReadToEnd() + process.StandardError.ReadToEnd();
        process.WaitForExit();
        return (process.ExitCode, output.Trim());
    }
}
