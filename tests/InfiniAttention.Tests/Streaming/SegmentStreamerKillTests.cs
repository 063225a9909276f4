using System.Diagnostics;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Whenever the writer dies, a reader sees the complete old file or the complete new one.</summary>
public class SegmentStreamerKillTests(ITestOutputHelper output)
{
    private const int Kills = 10;

    [Fact]
    public void A_writer_killed_at_any_moment_leaves_a_whole_file()
    {
        using var scope = NewDisposeScope();
        var random = new Random(5);
        LayerStack model = KilledWriter.Model();
        using SegmentStreamer streamer = new(model), old = KilledWriter.Streamer(model, 13), other = KilledWriter.Streamer(model, 22);
        var wholes = new Dictionary<long, SafeTensors> { [13] = SafeTensors.Of(old), [22] = SafeTensors.Of(other) };
        string folder = Directory.CreateTempSubdirectory().FullName;
        string path = Path.Combine(folder, "stream.safetensors");
        int halfWritten = 0;
        try
        {
            for (int kill = 0; kill < Kills; kill++)
            {
                KillWriter(path, TimeSpan.FromMilliseconds(random.NextDouble() * 40));
                streamer.Load(path);
                SafeTensors.Of(streamer).CompareTo(wholes[streamer.Position], 0, new Difference());
                halfWritten += Directory.GetFiles(folder).Length > 1 + halfWritten ? 1 : 0;
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        Assert.True(halfWritten > 0, "no writer was killed in the middle of a file, which is what this test is about");
        output.WriteLine($"{Kills} writers killed, {halfWritten} of them in the middle of a file; every file found was whole");
    }

    private static void KillWriter(string path, TimeSpan after)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true, UseShellExecute = false };
        foreach (string argument in new[] { "exec", typeof(KilledWriter).Assembly.Location, KilledWriter.Command, path })
        {
            start.ArgumentList.Add(argument);
        }

        using Process writer = Process.Start(start)!;
        try
        {
            Assert.Equal("saved", writer.StandardOutput.ReadLine());
            Thread.Sleep(after);
            Assert.False(writer.HasExited, "the writer must run until it is killed");
        }
        finally
        {
            writer.Kill();
            writer.WaitForExit();
        }
    }
}
