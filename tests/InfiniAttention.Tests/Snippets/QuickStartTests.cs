using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using InfiniAttention.Tests.Documentation;

namespace InfiniAttention.Tests.Snippets;

/// <summary>The program that the README shows whole, run as a reader would run it, with fewer steps.</summary>
public sealed partial class QuickStartTests : IDisposable
{
    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void It_learns_and_its_loaded_stream_goes_on_like_the_other()
    {
        var start = new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "QuickStart.dll"), Path.Combine(Repository.Root, "docs", "training.md"), "10"])
        {
            RedirectStandardOutput = true,
            WorkingDirectory = folder,
        };
        using var program = Process.Start(start)!;
        var output = program.StandardOutput.ReadToEnd();
        program.WaitForExit();

        Assert.Equal(0, program.ExitCode);
        var losses = Loss().Matches(output).Select(match => double.Parse(match.Groups["loss"].Value, CultureInfo.InvariantCulture)).ToArray();
        Assert.True(losses.Length > 2 && losses[^1] < 0.7 * losses[0], output);
        Assert.Contains("Both streams go on alike: True", output, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(folder, "stream.safetensors")), output);
    }

    [GeneratedRegex(@"^step +\d+, loss (?<loss>[\d.]+)\r?$", RegexOptions.Multiline)]
    private static partial Regex Loss();
}
