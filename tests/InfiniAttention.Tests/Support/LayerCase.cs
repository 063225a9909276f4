using FsCheck;
using FsCheck.Fluent;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A layer, its weights and an input, all determined by these properties.</summary>
internal sealed record LayerCase
{
    public int Seed { get; init; }

    public int Batch { get; init; } = 2;

    public int Length { get; init; } = 13;

    public int Segment { get; init; } = 4;

    public int KeyValueHeads { get; init; } = 2;

    public int HeadsPerGroup { get; init; } = 1;

    public int HeadDim { get; init; } = 4;

    public int ValueDim { get; init; } = 4;

    public int EmbedDim { get; init; } = 8;

    public MemoryUpdate Update { get; init; }

    public DeltaNormalizer DeltaNormalizer { get; init; }

    public EmptyMemory EmptyMemory { get; init; }

    /// <summary>Segments of each row in a block; 0 for the library's default.</summary>
    public int BlockSegments { get; init; }

    public RotaryPairing? Rotary { get; init; }

    /// <summary>How the frequencies are scaled: an index of <see cref="Scalings"/>.</summary>
    public int Scaling { get; init; }

    public bool Bias { get; init; }

    /// <summary>The projections that have no bias although the others have one: a bit for each.</summary>
    public int Unbiased { get; init; }

    public bool HeadNorm { get; init; }

    public bool Padding { get; init; }

    public bool Documents { get; init; }

    public bool WriteWeights { get; init; }

    public bool Norm { get; init; }

    public bool OwnMemoryProjections { get; init; }

    public int LocalSegments { get; init; } = 1;

    public static Gen<LayerCase> Generator { get; } =
        from seed in Gen.Choose(0, int.MaxValue - 1)
        from sizes in Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 6))
        from length in Gen.Choose(1, 5 * sizes.Item2 + 2)
        from heads in Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 3))
        from halfWidths in Gen.Zip(Gen.Choose(1, 3), Gen.Choose(1, 5))
        from embed in Gen.Choose(1, 9)
        from rule in Gen.Elements(
            (MemoryUpdate.Linear, DeltaNormalizer.BeforeSegment),
            (MemoryUpdate.Delta, DeltaNormalizer.BeforeSegment),
            (MemoryUpdate.Delta, DeltaNormalizer.AfterSegment))
        from empty in Gen.Elements(EmptyMemory.LocalOnly, EmptyMemory.Gated)
        from rotary in Gen.Elements<RotaryPairing?>(null, RotaryPairing.Halves, RotaryPairing.Interleaved)
        from block in Gen.Choose(0, 3)
        from flags in Gen.ArrayOf(Gen.Elements(false, true), 7)
        from decoder in Gen.Zip(Gen.Choose(0, 5), Gen.Choose(0, 15))
        from local in Gen.Choose(1, 2)
        select new LayerCase
        {
            Seed = seed,
            Batch = sizes.Item1,
            Segment = sizes.Item2,
            Length = length,
            KeyValueHeads = heads.Item1,
            HeadsPerGroup = heads.Item2,
            HeadDim = 2 * halfWidths.Item1,
            ValueDim = halfWidths.Item2,
            EmbedDim = embed,
            Update = rule.Item1,
            DeltaNormalizer = rule.Item2,
            EmptyMemory = empty,
            BlockSegments = block,
            Rotary = rotary,
            Bias = flags[0],
            Padding = flags[1],
            Documents = flags[2],
            WriteWeights = flags[3],
            Norm = flags[4],
            OwnMemoryProjections = flags[5],
            LocalSegments = local,
            HeadNorm = flags[6],
            Scaling = decoder.Item1,
            Unbiased = decoder.Item2,
        };

    public static Arbitrary<LayerCase> Any { get; } = Arb.From(Generator, Simpler);

    public long Heads => (long)KeyValueHeads * HeadsPerGroup;

    public InfiniAttentionOptions Options() => new()
    {
        EmbedDim = EmbedDim,
        NumHeads = Heads,
        NumKeyValueHeads = KeyValueHeads,
        HeadDim = HeadDim,
        ValueHeadDim = ValueDim,
        SegmentLength = Segment,
        Update = Update,
        DeltaNormalizer = DeltaNormalizer,
        EmptyMemory = EmptyMemory,
        BlockTokens = BlockSegments == 0 ? null : (long)BlockSegments * Segment * Batch,
        Rotary = Rotary is { } pairing ? new RotaryOptions(50.0, pairing) { Scaling = Scalings(HeadDim / 2)[Scaling] } : null,
        Bias = Bias,
        QueryBias = Bias && HasNoBias(0) ? false : null,
        KeyBias = Bias && HasNoBias(1) ? false : null,
        ValueBias = Bias && HasNoBias(2) ? false : null,
        OutputBias = Bias && HasNoBias(3) ? false : null,
        QueryKeyNorm = HeadNorm,
        QueryKeyNormEpsilon = 1e-3,
        MemoryNorm = Norm,
        OwnMemoryProjections = OwnMemoryProjections,
        LocalSegments = LocalSegments,
    };

    /// <summary>The weights by their names in <c>state_dict</c>, float64 leaves of the graph.</summary>
    public Dictionary<string, Tensor> Weights()
    {
        var draw = new Draw(Seed);
        double inner = 1 / Math.Sqrt(EmbedDim);
        var weights = new Dictionary<string, Tensor>
        {
            ["q_proj.weight"] = draw.Normal(inner, Heads * HeadDim, EmbedDim),
            ["k_proj.weight"] = draw.Normal(inner, (long)KeyValueHeads * HeadDim, EmbedDim),
            ["v_proj.weight"] = draw.Normal(inner, (long)KeyValueHeads * ValueDim, EmbedDim),
            ["o_proj.weight"] = draw.Normal(1 / Math.Sqrt(Heads * ValueDim), EmbedDim, Heads * ValueDim),
            ["gate"] = draw.Normal(1, Heads),
        };
        string[] projections = ["q_proj", "k_proj", "v_proj", "o_proj"];
        foreach (string projection in projections.Where((_, i) => Bias && !HasNoBias(i)))
        {
            weights[projection + ".bias"] = draw.Normal(0.3, weights[projection + ".weight"].shape[0]);
        }

        if (HeadNorm)
        {
            weights["q_norm.weight"] = draw.Normal(1, HeadDim);
            weights["k_norm.weight"] = draw.Normal(1, HeadDim);
        }

        if (Norm)
        {
            weights["memory_norm.query_scale"] = draw.Normal(2, Heads);
            weights["memory_norm.key_scale"] = draw.Normal(2, KeyValueHeads);
            weights["memory_norm.read_weight"] = draw.Normal(1, Heads, ValueDim);
        }

        if (OwnMemoryProjections)
        {
            weights["memory_q_proj.weight"] = draw.Normal(inner, Heads * HeadDim, EmbedDim);
            weights["memory_k_proj.weight"] = draw.Normal(inner, (long)KeyValueHeads * HeadDim, EmbedDim);
        }

        foreach (Tensor weight in weights.Values)
        {
            weight.requires_grad_(true);
        }

        return weights;
    }

    /// <summary>The library's layer with <see cref="Weights"/>, float64.</summary>
    public InfiniAttentionModule Layer() => Layers.With(Options(), Weights());

    /// <summary>(B,T,D), a leaf of the graph.</summary>
    public Tensor Input() => new Draw(Seed + 1).Normal(1, Batch, Length, EmbedDim).requires_grad_(true);

    public TokenInfo? Info()
    {
        var draw = new Draw(Seed + 2);
        Tensor? padding = Padding ? PaddingMask(draw) : null;
        Tensor? starts = Documents ? draw.Flags(0.15, Batch, Length) : null;
        Tensor? writes = null;
        if (WriteWeights)
        {
            writes = draw.Uniform(0, 3, Batch, Length).masked_fill(draw.Flags(0.2, Batch, Length), 0).requires_grad_(true);
        }

        return padding is null && starts is null && writes is null ? null : new TokenInfo { KeyPaddingMask = padding, DocumentStarts = starts, WriteWeights = writes };
    }

    private bool HasNoBias(int projection) => (Unbiased >> projection & 1) == 1;

    /// <summary>None, and each kind of scaling, so that with theta 50 the pairs of a head are scaled differently.</summary>
    private static RotaryScaling?[] Scalings(int pairs)
    {
        double[] Numbers(double first, double step) => [.. Enumerable.Range(0, pairs).Select(i => first + i * step)];
        return
        [
            null,
            new LinearRotaryScaling(2.5),
            new Llama3RotaryScaling(3, 40),
            new YarnRotaryScaling(4, 40) { BetaFast = 4, Truncate = pairs < 3 },
            new LongRotaryScaling(Numbers(1, 0.3), Numbers(1.5, 0.8), 5, 4),
            new GivenRotaryFrequencies(Numbers(0.2, 0.5), 1.2),
        ];
    }

    /// <summary>Single padded tokens, and in some rows left padding, as in batches of prompts.</summary>
    private Tensor PaddingMask(Draw draw)
    {
        Tensor mask = draw.Flags(0.2, Batch, Length);
        for (int b = 0; b < Batch; b++)
        {
            if (draw.Int(2) == 0)
            {
                mask.select(0, b).narrow(0, 0, 1 + draw.Int(Length)).fill_(true);
            }
        }

        return mask;
    }

    private static IEnumerable<LayerCase> Simpler(LayerCase one)
    {
        IEnumerable<LayerCase> fewer =
        [
            one with { Batch = 1 },
            one with { Length = Math.Max(1, one.Length / 2) },
            one with { Length = Math.Max(1, one.Length - 1) },
            one with { Segment = Math.Max(1, one.Segment / 2) },
            one with { KeyValueHeads = 1 },
            one with { HeadsPerGroup = 1 },
            one with { Padding = false },
            one with { Documents = false },
            one with { WriteWeights = false },
            one with { Bias = false },
            one with { Unbiased = 0 },
            one with { HeadNorm = false },
            one with { Scaling = 0 },
            one with { Rotary = null },
            one with { Update = MemoryUpdate.Linear, DeltaNormalizer = DeltaNormalizer.BeforeSegment },
            one with { BlockSegments = 0 },
            one with { Norm = false },
            one with { OwnMemoryProjections = false },
            one with { LocalSegments = 1 },
        ];
        return fewer.Where(simpler => simpler != one);
    }
}
