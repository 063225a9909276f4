using static TorchSharp.torch;

namespace InfiniAttention.Tests.Oracle;

/// <summary>A token that the oracle keeps: one key, one memory key and one value per key/value head.</summary>
internal sealed class OracleToken(Tensor[] keys, Tensor[] memoryKeys, Tensor[] values, Tensor weight, bool padded)
{
    public Tensor[] Keys { get; } = keys;

    public Tensor[] MemoryKeys { get; } = memoryKeys;

    public Tensor[] Values { get; } = values;

    public Tensor Weight { get; } = weight;

    public bool Padded { get; } = padded;

    public bool OfAnEarlierDocument { get; set; }

    public bool Visible => !Padded && !OfAnEarlierDocument;
}

/// <summary>What one row of the batch carries from token to token: M and z of each key/value head, and the open segment.</summary>
internal sealed class OracleRow
{
    private readonly InfiniAttentionOptions options;

    public OracleRow(InfiniAttentionOptions options)
    {
        this.options = options;
        (Memory, Normalizer) = Nothing(options);
        Empty = true;
    }

    /// <summary>M of each key/value head, (K,V).</summary>
    public Tensor[] Memory { get; private set; }

    /// <summary>z of each key/value head, (K).</summary>
    public Tensor[] Normalizer { get; private set; }

    public bool Empty { get; private set; }

    /// <summary>True from a document start to the end of its segment: the memory still holds the previous document.</summary>
    public bool MemoryOfAnEarlierDocument { get; private set; }

    public bool NothingToRead => Empty || MemoryOfAnEarlierDocument;

    public List<OracleToken> Open { get; } = [];

    /// <summary>The segment before the open one, if local attention sees it.</summary>
    public OracleToken[] Earlier { get; private set; } = [];

    public void StartDocument()
    {
        MemoryOfAnEarlierDocument = true;
        foreach (OracleToken token in Earlier.Concat(Open))
        {
            token.OfAnEarlierDocument = true;
        }
    }

    /// <summary>Writes the whole segment to the memory (equations 8 and 9) and opens the next one.</summary>
    public void Commit()
    {
        if (MemoryOfAnEarlierDocument)
        {
            Forget();
        }

        OracleToken[] written = [.. Open.Where(t => t.Visible)];
        bool emptyBefore = Empty;
        Empty &= written.All(token => token.Weight.item<double>() == 0);
        for (int g = 0; g < Memory.Length; g++)
        {
            (Tensor before, Tensor normalizerBefore) = (Memory[g], Normalizer[g]);
            foreach (OracleToken token in written)
            {
                Normalizer[g] = Normalizer[g] + token.Weight * OracleAttention.Sigma(token.MemoryKeys[g]);
            }

            (Tensor divisor, bool nothingToDivideBy) = options.DeltaNormalizer == DeltaNormalizer.BeforeSegment
                ? (normalizerBefore, emptyBefore)
                : (Normalizer[g], Empty);
            foreach (OracleToken token in written)
            {
                Tensor feature = OracleAttention.Sigma(token.MemoryKeys[g]);
                Tensor value = token.Values[g];
                if (options.Update == MemoryUpdate.Delta && !nothingToDivideBy)
                {
                    value = value - OracleAttention.Read(feature, before, divisor);
                }

                Memory[g] = Memory[g] + token.Weight * outer(feature, value);
            }
        }

        Earlier = options.LocalSegments == 2 ? [.. Open] : [];
        Open.Clear();
    }

    public void ReplaceMemory(Tensor memory, Tensor normalizer)
    {
        Memory = [.. Memory.Select((_, g) => memory.select(0, g))];
        Normalizer = [.. Normalizer.Select((_, g) => normalizer.select(0, g))];
    }

    /// <summary>Begins with a memory from elsewhere; a row whose z is 0 has none.</summary>
    public void Begin(Tensor memory, Tensor normalizer)
    {
        ReplaceMemory(memory, normalizer);
        Empty = normalizer.count_nonzero().item<long>() == 0;
    }

    private void Forget()
    {
        (Memory, Normalizer) = Nothing(options);
        (Empty, MemoryOfAnEarlierDocument) = (true, false);
    }

    private static (Tensor[] Memory, Tensor[] Normalizer) Nothing(InfiniAttentionOptions options)
    {
        long G = options.NumKeyValueHeads ?? options.NumHeads;
        long K = options.HeadDim ?? options.EmbedDim / options.NumHeads;
        long V = options.ValueHeadDim ?? K;
        return (
            [.. Enumerable.Range(0, (int)G).Select(_ => zeros(K, V, dtype: ScalarType.Float64))],
            [.. Enumerable.Range(0, (int)G).Select(_ => zeros(K, dtype: ScalarType.Float64))]);
    }
}
