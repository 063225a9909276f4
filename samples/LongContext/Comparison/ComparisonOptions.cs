using System.CommandLine;

namespace LongContext.Comparison;

/// <summary>The options that commands which compare systems share.</summary>
internal static class ComparisonOptions
{
    public static string SystemsDescription => "Which to train: " + string.Join(", ", ComparedSystem.All.Select(system => system.Name)) + ".";

    public static Option<string[]> Systems(string[] usual) =>
        new("--systems") { Description = SystemsDescription, DefaultValueFactory = _ => usual, AllowMultipleArgumentsPerToken = true };

    public static Option<int[]> Seeds(params int[] usual) => new("--seeds") { Description = "The seeds.", DefaultValueFactory = _ => usual, AllowMultipleArgumentsPerToken = true };

    public static Option<int> Workers() => new("--workers") { Description = "Trainings in parallel, each on one core.", DefaultValueFactory = _ => Environment.ProcessorCount };

    public static Option<DirectoryInfo> Output(string usual) => new("--output")
    {
        Description = "The folder of weights and results. What is there already is not trained again, and an interrupted training goes on.",
        DefaultValueFactory = _ => new(usual),
    };
}
