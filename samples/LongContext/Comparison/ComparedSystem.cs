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

    /// <summary>The systems on the way from the base to this one, which is the last; each starts from the one before.</summary>
    public IEnumerable<ComparedSystem> FromBase => After is { } before ? Named(before).FromBase.Append(this) : [this];

    /// <summary>The length of the sequences through which gradients flow, for a system of <see cref="AtLength"/>; null for the others.</summary>
    public int? SequenceTokens { get; init; }

    /// <summary>The base of all systems, trained on single segments.</summary>
    public static readonly ComparedSystem Base = new("base", "the shared base", (options, _) => new LocalContext(options));

    public static readonly IReadOnlyList<ComparedSystem> All =
    [
        new("local", "local attention alone", (options, _) => new LocalContext(options)),
        new("xl", "Transformer-XL", (options, _) => new TransformerXLContext(options)),
        new("memorizing", "Memorizing Transformers", (options, layer) => layer == MemorizingContext.LayerOf(options.Layers) ? new MemorizingContext(options) : new TransformerXLContext(options)),
        new("rmt", "Recurrent Memory Transformer", (options, _) => new RecurrentMemoryContext(options, RecurrentMemory.DefaultTokens)) { MemoryTokens = RecurrentMemory.DefaultTokens },
        new("full", "full attention", (options, _) => new FullContext(options)),
        Infini("paper", "the paper's memory", o => o),
        Infini("paper-delta", "the paper's memory, delta rule", o => o with { Update = MemoryUpdate.Delta }),
        Infini("norm", "MemoryNorm", o => o with { MemoryNorm = true }),
        Infini("norm-delta", "MemoryNorm, delta rule", o => o with { MemoryNorm = true, Update = MemoryUpdate.Delta }),
        Infini("norm-delta-two", "the same, then 2 segments in view", o => o with { MemoryNorm = true, Update = MemoryUpdate.Delta, LocalSegments = 2 }) with { After = "norm-delta" },
        Infini("own", "MemoryNorm, own projections", o => o with { MemoryNorm = true, OwnMemoryProjections = true }),
        Infini("own-delta", "MemoryNorm, own projections, delta", o => o with { MemoryNorm = true, OwnMemoryProjections = true, Update = MemoryUpdate.Delta }),
        Infini("own-two", "own projections, then 2 segments in view", o => o with { MemoryNorm = true, OwnMemoryProjections = true, LocalSegments = 2 }) with { After = "own" },
    ];

    /// <summary>The system of a name; of "norm@4K" the system "norm", continued on sequences of 4K tokens.</summary>
    public static ComparedSystem Named(string name)
    {
        if (name.Split('@') is [var before, var length])
        {
            return Named(before).AtLength(TokenCount.Parse(length));
        }

        return name == Base.Name ? Base : All.FirstOrDefault(system => system.Name == name)
            ?? throw new InputException($"There is no system '{name}'; there are {string.Join(", ", All.Select(system => system.Name))}.");
    }

    /// <summary>This system, continued from its trained weights with gradients through whole sequences.</summary>
    public ComparedSystem AtLength(long tokens)
    {
        if (!IsInfini)
        {
            throw new InputException($"The system '{Name}' is not trained on longer sequences: its gradients do not reach earlier windows. Choose one with Infini-attention.");
        }

        return tokens is >= 1024 and <= SequenceTraining.StepTokens && SequenceTraining.StepTokens % tokens == 0
            ? this with { Name = $"{Name}@{TokenCount.Format(tokens)}", Title = $"{Title}, {TokenCount.Format(tokens)} a sequence", After = Name, SequenceTokens = (int)tokens }
            : throw new InputException($"A sequence of {tokens} tokens cannot be trained on: lengths are 1K, 2K, 4K and so on to {TokenCount.Format(SequenceTraining.StepTokens)}.");
    }

    /// <summary>Whether all attention layers are Infini-attention.</summary>
    private bool IsInfini { get; init; }

    /// <summary>The system's place in tables: that of <see cref="All"/>, longer sequences later.</summary>
    public static (int, int) Place(ComparedSystem system) => (All.Select(entry => entry.Name).ToList().IndexOf(system.Name.Split('@')[0]), system.SequenceTokens ?? 0);

    public ContextDecoder Create(DecoderOptions options) => new(options, layer => Attention(options, layer), MemoryTokens);

    private static ComparedSystem Infini(string name, string title, Func<InfiniAttentionOptions, InfiniAttentionOptions> change) =>
        new(name, title, (options, _) => new InfiniContext(options, change)) { IsInfini = true };
}
