using System.CommandLine;
using InfiniAttention;

namespace LongContext;

/// <summary>Which of the library's options a model's memory has.</summary>
/// <param name="Norm">Whether queries, keys and what is read are normalised.</param>
/// <param name="OwnProjections">Whether the memory has its own projections.</param>
/// <param name="LocalSegments">How many segments the local attention sees.</param>
public sealed record MemoryVariant(bool Norm = false, bool OwnProjections = false, long LocalSegments = 1)
{
    public static readonly MemoryVariant Paper = new();

    internal static Option<string> Option() => new("--memory")
    {
        Description = "The memory: paper, norm (MemoryNorm) or own (MemoryNorm and OwnMemoryProjections).",
        DefaultValueFactory = _ => "paper",
    };

    internal static Option<int> LocalSegmentsOption() => new("--local-segments") { Description = "How many segments the local attention sees: 1 or 2.", DefaultValueFactory = _ => 1 };

    internal static MemoryVariant Parse(string memory, int localSegments)
    {
        var variant = memory switch
        {
            "paper" => Paper,
            "norm" => new(Norm: true),
            "own" => new(Norm: true, OwnProjections: true),
            _ => throw new InputException($"There is no memory '{memory}': it is paper, norm or own."),
        };
        return localSegments is 1 or 2 ? variant with { LocalSegments = localSegments } : throw new InputException($"--local-segments is {localSegments}; it must be 1 or 2.");
    }

    /// <summary>What <see cref="Apply"/> set.</summary>
    public static MemoryVariant Of(InfiniAttentionOptions options) => new(options.MemoryNorm, options.OwnMemoryProjections, options.LocalSegments);

    public InfiniAttentionOptions Apply(InfiniAttentionOptions options) => options with { MemoryNorm = Norm, OwnMemoryProjections = OwnProjections, LocalSegments = LocalSegments };
}
