using System.CommandLine;
using LongContext.Adapt;
using LongContext.Comparison;
using LongContext.Generate;
using LongContext.Lm;
using LongContext.Passkey;
using LongContext.Recall;
using LongContext.Summaries;
using Spectre.Console;

namespace LongContext;

/// <summary>The program: its commands, and its exit codes.</summary>
public static class Cli
{
    public const int Success = 0, Failure = 1, Interrupted = 130;

    /// <summary>The line width of output to a file or a pipe, which have no width.</summary>
    private const int LogWidth = 160;

    public static async Task<int> Run(string[] arguments)
    {
        var root = new RootCommand("Experiments with Infini-attention on long contexts.")
        {
            PasskeyCommand.Create(), AdaptCommand.Create(), RecallCommand.Create(), LmCommand.Create(), SummaryCommand.Create(), GenerateCommand.Create(), LogitsCommand.Create(),
            JobProcess.Create(),
        };
        var configuration = new InvocationConfiguration
        {
            EnableDefaultExceptionHandler = false,
            ProcessTerminationTimeout = TimeSpan.FromMinutes(1), // after Ctrl-C, to finish a window or a step and to write the results so far
        };
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = LogWidth;
        }

        try
        {
            return await root.Parse(arguments).InvokeAsync(configuration);
        }
        catch (Exception error) when (error is InputException or IOException or UnauthorizedAccessException)
        {
            await Console.Error.WriteLineAsync(error.Message);
            return Failure;
        }
    }

    /// <summary>Writes results into a folder, and says so.</summary>
    public static void WriteFiles(string folder, IEnumerable<(string Name, string Text)> files)
    {
        foreach (var (name, text) in files)
        {
            var path = Path.Combine(folder, name);
            AtomicFile.Write(path, text);
            AnsiConsole.MarkupLineInterpolated($"Written: {path}");
        }
    }
}
