using System.Diagnostics;
using System.Globalization;
using Xunit.Abstractions;

namespace InfiniAttention.Tests.Groups;

/// <summary>Real MPI jobs of one to four processes on this machine.</summary>
public class MpiTests(ITestOutputHelper output)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(4);

    [MpiTheory]
    [InlineData(1, "Float64")]
    [InlineData(2, "Float64")]
    [InlineData(3, "Float64")]
    [InlineData(4, "Float64")]
    [InlineData(4, "Float32")]
    public void A_layer_gives_the_outputs_state_and_gradients_of_one_process(int ranks, string type) => Succeeds(ranks, "layer", type, "30");

    [MpiTheory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public void A_stream_gives_every_rank_what_it_gives_one_process(int ranks) => Succeeds(ranks, "stream", "8");

    [MpiFact]
    public void A_rank_that_throws_ends_all_with_its_message()
    {
        (int code, string text) = Run(3, "fail");
        Assert.NotEqual(0, code);
        Assert.Contains($"Rank 2 of 3: System.InvalidOperationException: {RankProgram.Failure}", text, StringComparison.Ordinal);
        Assert.DoesNotContain("was not ended", text, StringComparison.Ordinal);
    }

    [MpiFact]
    public void A_stretch_that_is_no_whole_number_of_segments_is_refused_on_every_rank()
    {
        (int code, string text) = Run(3, "refuse");
        Assert.Equal(0, code);
        Assert.Contains("rank 0 of 3: x has 7 tokens on rank 0 of 3; on every rank but the last it must be a whole number of segments", text, StringComparison.Ordinal);
        Assert.Contains("rank 1 of 3: Rank 0 of the group refused its arguments", text, StringComparison.Ordinal);
        Assert.Contains("rank 2 of 3: Rank 0 of the group refused its arguments", text, StringComparison.Ordinal);
    }

    [MpiTheory]
    [InlineData(1)]
    [InlineData(3)]
    public void Tensors_are_exchanged_in_every_way(int ranks) => Succeeds(ranks, "exchange");

    [LargeMpiFact]
    public void Tensors_of_more_than_2_GiB_are_exchanged() => Succeeds(2, "large");

    [MpiFact]
    public void The_program_of_the_documentation_trains()
    {
        (int code, string text) = Run(2, "train");
        Assert.True(code == 0, text);
        Assert.Equal(20, text.Split('\n').Count(line => line.StartsWith("loss ", StringComparison.Ordinal))); // of one rank alone
    }

    private void Succeeds(int ranks, params string[] arguments)
    {
        (int code, string text) = Run(ranks, arguments);
        Assert.True(code == 0, text);
        for (int rank = 0; rank < ranks; rank++)
        {
            Assert.Contains($"rank {rank} of {ranks}: ", text, StringComparison.Ordinal);
        }
    }

    /// <summary>Runs <see cref="RankProgram"/> under mpiexec.</summary>
    private (int Code, string Text) Run(int ranks, params string[] arguments)
    {
        var start = new ProcessStartInfo("mpiexec") { RedirectStandardOutput = true, RedirectStandardError = true };
        string[] all =
        [
            "-n", ranks.ToString(CultureInfo.InvariantCulture), Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet",
            "exec", typeof(RankProgram).Assembly.Location, RankProgram.Command, .. arguments,
        ];
        Array.ForEach(all, start.ArgumentList.Add);
        start.Environment["OMP_NUM_THREADS"] = "1";
        using (Process process = Process.Start(start)!)
        {
            Task<string> said = process.StandardOutput.ReadToEndAsync(), errors = process.StandardError.ReadToEndAsync();
            if (!process.WaitForExit(Patience))
            {
                process.Kill(entireProcessTree: true);
                Assert.Fail($"mpiexec -n {ranks} {string.Join(' ', arguments)} did not end within {Patience}.");
            }

            string text = said.Result + errors.Result;
            output.WriteLine(text);
            return (process.ExitCode, text);
        }
    }
}
