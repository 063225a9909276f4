using System.Diagnostics;
using System.Text;
using InfiniAttention;
using LongContext.Passkey;

namespace LongContext.Tests;

public sealed class CliTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("There is no update rule 'cosine': it is linear, delta or both.", "--rule", "cosine")]
    [InlineData("There is no weights file", "--weights", "nowhere.safetensors")]
    [InlineData("A length of 100 tokens is too short", "--lengths", "100")]
    [InlineData("'abc' is not a number of tokens", "--lengths", "abc")]
    [InlineData("There is no position 'left'", "--positions", "left")]
    [InlineData("--trials must be at least 1.", "--trials", "0")]
    [InlineData("There is no haystack file", "--haystack", "nowhere.txt")]
    [InlineData("There is no device 'tpu'", "--device", "tpu")]
    public async Task Bad_input_ends_with_one_sentence(string message, params string[] arguments)
    {
        var (code, _, error) = await Run(["passkey", "eval", .. arguments]);

        Assert.Equal(1, code);
        Assert.Contains(message, error);
        Assert.Single(error.Trim().Split('\n'));
    }

    [Fact]
    public async Task Cuda_is_refused_on_a_machine_without_it()
    {
        if (TorchSharp.torch.cuda.is_available())
        {
            return;
        }

        var (code, _, error) = await Run(["passkey", "eval", "--device", "cuda"]);

        Assert.Equal(1, code);
        Assert.Contains("There is no CUDA device", error);
    }

    [Fact]
    public async Task An_unknown_option_is_refused()
    {
        var (code, _, error) = await Run(["passkey", "eval", "--speed", "11"]);

        Assert.NotEqual(0, code);
        Assert.Contains("--speed", error);
    }

    [Fact]
    public async Task An_evaluation_prints_its_table_and_writes_its_files()
    {
        Save(MemoryUpdate.Linear);
        Save(MemoryUpdate.Delta);
        File.WriteAllText(folder.File("words.txt"), "a few words ");

        var (code, output, error) = await Run(["passkey", "eval", "--lengths", "512,1K", "--trials", "1", "--weights", folder.File("Linear"), folder.File("Delta"),
            "--haystack", folder.File("words.txt"), "--csv", folder.File("out/table.csv"), "--svg", folder.File("out/chart.svg")]);

        Assert.Equal("", error);
        Assert.Equal(0, code);
        Assert.Contains("The haystack words.txt has 12 bytes, fewer than the longest prompt: it is repeated.", output.ReplaceLineEndings(" ").Replace("  ", " "));
        Assert.Contains("start/middle/end", output);
        Assert.Equal(1 + 2 * 2 * 3, File.ReadAllLines(folder.File("out/table.csv")).Length);
        Assert.Contains("</svg>", File.ReadAllText(folder.File("out/chart.svg")));
    }

    [Fact]
    public async Task Weights_of_another_rule_are_refused()
    {
        Save(MemoryUpdate.Linear);

        var (code, _, error) = await Run(["passkey", "eval", "--rule", "delta", "--weights", folder.File("Linear")]);

        Assert.Equal(1, code);
        Assert.Contains("None of the given weights was trained with the update rule 'delta'", error);
    }

    [Fact]
    public async Task An_interrupted_evaluation_prints_what_was_measured_so_far()
    {
        if (OperatingSystem.IsWindows())
        {
            return; // signals cannot be sent to another process there
        }

        Save(MemoryUpdate.Linear);

        var (code, output) = await RunAndInterrupt(
            "million tokens", "passkey", "eval", "--lengths", "512,512M", "--trials", "1", "--positions", "end", "--weights", folder.File("Linear"));

        Assert.Equal(Cli.Interrupted, code);
        Assert.Contains("Interrupted: this is what was measured so far.", output);
        Assert.Matches(@"│ 512 +│ +(0|100) +│ +1 │", output);
    }

    [Theory]
    [InlineData("is a folder: give the name of a file.", "passkey", "eval", "--csv", "FOLDER")]
    [InlineData("cannot be written: ", "passkey", "eval", "--svg", "FILE/chart.svg")]
    [InlineData("cannot be written: ", "passkey", "train", "--output", "FILE")]
    [InlineData("cannot be written: ", "adapt", "--svg", "FILE")]
    public async Task Results_that_cannot_be_written_are_refused_before_the_work(string message, params string[] arguments)
    {
        File.WriteAllText(folder.File("file"), "");
        string[] real = [.. arguments.Select(argument => argument.Replace("FILE", folder.File("file")).Replace("FOLDER", folder.File("")))];

        var (code, output, error) = await Run(real);

        Assert.Equal((1, ""), (code, output));
        Assert.Contains(message, error);
        Assert.Single(error.Trim().Split('\n'));
    }

    [Theory]
    [InlineData("--weights")]
    [InlineData("--haystack")]
    public async Task A_file_that_cannot_be_read_ends_with_one_sentence(string option)
    {
        const string Unreadable = "/proc/self/mem"; // unreadable even for root: its first page is not mapped
        if (!File.Exists(Unreadable))
        {
            return;
        }

        var (code, _, error) = await Run(["passkey", "eval", option, Unreadable]);

        Assert.Equal(1, code);
        Assert.Contains(Unreadable, error);
        Assert.Single(error.Trim().Split('\n'));
    }

    [Fact]
    public async Task Resuming_without_anything_to_resume_is_refused_before_the_training()
    {
        var (code, output, error) = await Run(["passkey", "train", "--resume", "--output", folder.File("weights")]);

        Assert.Equal((1, ""), (code, output));
        Assert.Equal($"There is nothing to resume in '{folder.File("weights")}', no checkpoint and no weights: leave --resume out to begin.", error.Trim());
    }

    [Fact]
    public async Task Resuming_skips_a_rule_that_is_finished_and_begins_one_that_has_not_begun()
    {
        if (OperatingSystem.IsWindows())
        {
            return; // signals cannot be sent to another process there
        }

        var weights = folder.File("passkey-linear.safetensors");
        File.WriteAllText(weights, "");

        var (code, output) = await RunAndInterrupt("Delta rule, ", "passkey", "train", "--resume", "--output", folder.File(""));

        Assert.Equal(Cli.Interrupted, code);
        Assert.Contains($"Linear rule: finished before. Weights: {weights}", output);
        Assert.Contains("Interrupted: go on with --resume.", output);
        Assert.True(File.Exists(folder.File("passkey-delta.checkpoint")));
        Assert.Equal(0, new FileInfo(weights).Length);
    }

    private void Save(MemoryUpdate rule)
    {
        using var model = PasskeyModelTests.Small(rule);
        WeightsFile.Save(folder.File(rule.ToString()), model);
    }

    /// <summary>Runs the program in a process of its own and sends it Ctrl-C some time after it printed a text.</summary>
    internal static async Task<(int Code, string Output)> RunAndInterrupt(string text, params string[] arguments)
    {
        // Tests that run in the background ignore Ctrl-C, and so would a process that they start.
        string[] command = [.. OperatingSystem.IsLinux() ? ["env", "--default-signal=INT"] : Array.Empty<string>(), "dotnet", typeof(Cli).Assembly.Location, .. arguments];
        using var program = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardOutput = true })!;
        var output = new StringBuilder();
        while (!output.ToString().Contains(text, StringComparison.Ordinal) && await program.StandardOutput.ReadLineAsync() is { } line)
        {
            output.AppendLine(line);
        }

        await Task.Delay(TimeSpan.FromSeconds(5)); // for the first results

        using (var signal = Process.Start("kill", ["-INT", $"{program.Id}"]))
        {
            await signal.WaitForExitAsync();
        }

        output.Append(await program.StandardOutput.ReadToEndAsync());
        await program.WaitForExitAsync();
        return (program.ExitCode, output.ToString());
    }

    internal static async Task<(int Code, string Output, string Error)> Run(string[] arguments)
    {
        var (output, error) = (new StringWriter(new StringBuilder()), new StringWriter(new StringBuilder()));
        var (standardOutput, standardError, console) = (Console.Out, Console.Error, Spectre.Console.AnsiConsole.Console);
        Console.SetOut(output);
        Console.SetError(error);
        Spectre.Console.AnsiConsole.Console = Spectre.Console.AnsiConsole.Create(new() { Out = new Spectre.Console.AnsiConsoleOutput(output) });
        try
        {
            return (await Cli.Run(arguments), output.ToString(), error.ToString());
        }
        finally
        {
            Console.SetOut(standardOutput);
            Console.SetError(standardError);
            Spectre.Console.AnsiConsole.Console = console;
        }
    }
}
