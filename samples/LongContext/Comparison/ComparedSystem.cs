using InfiniAttention;
using LongContext.LanguageModel;

namespace LongContext.Comparison;

/// <summary>One of the systems that are compared: a decoder with an attention of its own.</summary>
/// <param name="Name">Its name on the command line and in files.</param>
/// <param name="Title">Its name in tables.</param>
/// <param name="Attention">The attention of a layer.</param>
public sealed record ComparedSystem(string Name, string Title, Func<DecoderOptions, int, ContextAttention> Attention)
{
    /// <summary>The memory tokens of a Recurrent Memory Transformer; 0 for the others.</summary>
    public int MemoryTokens { get; init; }

    /// <summary>The system whose trained weights this one starts from, to train on a third as many tokens more; null for the shared base.</summary>
    public string? After { get; init; }

    /// <summary>The base of all systems, trained on single segments.</summary>
    public static readonly ComparedSystem Base = new("base", "the shared base", (options, _) => new LocalContext(options));

    public static readonly IReadOnlyList<ComparedSystem> All =
    [
        new("local", "local attention alone", (options, _) => new LocalContext(options)),
        new("xl", "Transformer-XL", (options, _) => new TransformerXLContext(options)),
        new("memorizing", "Memorizing Transformers", (options, layer) => layer == MemorizingContext.LayerOf(options.Layers) ? new MemorizingContext(options) : new TransformerXLContext(options)),
        new("rmt", "Recurrent Memory Transformer", (options, _) => new RecurrentMemoryContext(options, RecurrentMemory.DefaultTokens)) { MemoryTokens = RecurrentMemory.DefaultTokens },
        new("full", "full attention", (options, _) => new FullContext(options)),
        new("paper", "the paper's memory", Infini(o => o)),
        new("paper-delta", "the paper's memory, delta rule", Infini(o => o with { Update = MemoryUpdate.Delta })),
        new("norm", "MemoryNorm", Infini(o => o with { MemoryNorm = true })),
        new("norm-delta", "MemoryNorm, delta rule", Infini(o => o with { MemoryNorm = true, Update = MemoryUpdate.Delta })),
        new("norm-delta-two", "the same, then 2 segments in view", Infini(o => o with { MemoryNorm = true, Update = MemoryUpdate.Delta, LocalSegments = 2 })) { After = "norm-delta" },
        new("own", "MemoryNorm, own projections", Infini(o => o with { MemoryNorm = true, OwnMemoryProjections = true })),
        new("own-delta", "MemoryNorm, own projections, delta", Infini(o => o with { MemoryNorm = true, OwnMemoryProjections = true, Update = MemoryUpdate.Delta })),
        new("own-two", "own projections, then 2 segments in view", Infini(o => o with { MemoryNorm = true, OwnMemoryProjections = true, LocalSegments = 2 })) { After = "own" },
    ];

    public static ComparedSystem Named(string name) => name == Base.Name ? Base : All.FirstOrDefault(system => system.Name == name)
        ?? throw new InputException($"There is no system '{name}'; there are {string.Join(", ", All.Select(system => system.Name))}.");

    public Decoder Create(DecoderOptions options) => new(options, layer => Attention(options, layer), MemoryTokens);

    private static Func<DecoderOptions, int, ContextAttention> Infini(Func<InfiniAttentionOptions, InfiniAttentionOptions> change) => (options, _) => new InfiniContext(options, change);
}
