using System.CommandLine;
using InfiniAttention;
using TorchSharp;

namespace LongContext.Passkey;

/// <summary>The command <c>passkey</c>, and what its two subcommands share.</summary>
public static class PasskeyCommand
{
    public static Command Create() => new("passkey", "A key hidden in a long text, and asked for at its end: the paper's headline experiment.")
    {
        EvalCommand.Create(),
        TrainCommand.Create(),
    };

    /// <summary>The path of the weights that ship with the program.</summary>
    public static string ShippedWeights(MemoryUpdate rule) =>
        Path.Combine(AppContext.BaseDirectory, "weights", $"passkey-{rule.ToString().ToLowerInvariant()}.safetensors");

    internal static Option<string> RuleOption() => new("--rule") { Description = "The update rule: linear, delta or both.", DefaultValueFactory = _ => "both" };

    internal static Option<string> DeviceOption() => new("--device") { Description = "cpu or cuda.", DefaultValueFactory = _ => "cpu" };

    internal static Option<int> SeedOption() => new("--seed") { Description = "The random seed.", DefaultValueFactory = _ => 1 };

    internal static Option<string[]> HaystackOption(string description) => new("--haystack") { Description = description, AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [] };

    internal static IReadOnlyList<MemoryUpdate> Rules(string text) => text.ToLowerInvariant() switch
    {
        "linear" => [MemoryUpdate.Linear],
        "delta" => [MemoryUpdate.Delta],
        "both" => [MemoryUpdate.Linear, MemoryUpdate.Delta],
        _ => throw new InputException($"There is no update rule '{text}': it is linear, delta or both."),
    };

    internal static torch.Device Device(string text) => text.ToLowerInvariant() switch
    {
        "cpu" => torch.CPU,
        "cuda" => torch.cuda.is_available() ? torch.CUDA : throw new InputException("There is no CUDA device here that this libtorch can use: run with --device cpu."),
        _ => throw new InputException($"There is no device '{text}': it is cpu or cuda."),
    };
}
