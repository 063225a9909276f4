using static TorchSharp.torch;

namespace InfiniAttention.Tests.Oracle;

/// <summary>
/// Infini-attention as the paper defines it: one row, one token and one head at a time, in float64. It is slow and obvious, and
/// shares only the options with the library. Gradients come from automatic differentiation of this code.
/// D model width, H query heads, G key/value heads, K key width, V value width, N segment length.
/// </summary>
internal sealed class OracleAttention(InfiniAttentionOptions options, IReadOnlyDictionary<string, Tensor> weights)
{
    private readonly int H = (int)options.NumHeads;
    private readonly int G = (int)(options.NumKeyValueHeads ?? options.NumHeads);
    private readonly int K = (int)(options.HeadDim ?? options.EmbedDim / options.NumHeads);
    private readonly int V = (int)(options.ValueHeadDim ?? options.HeadDim ?? options.EmbedDim / options.NumHeads);

    /// <summary>sigma(x) = ELU(x) + 1, which is exp(x) below zero and x + 1 above.</summary>
    public static Tensor Sigma(Tensor x) => nn.functional.elu(x, 1.0) + 1;

    /// <summary>Equation 7: sigma(q) M / (sigma(q) z).</summary>
    public static Tensor Read(Tensor feature, Tensor M, Tensor z) => matmul(feature, M) / matmul(feature, z);

    public OracleRow[] NewState(long rows) => [.. Enumerable.Range(0, (int)rows).Select(_ => new OracleRow(options))];

    /// <summary>Feeds x (B,T,D) to the rows, updates them, and returns the outputs (B,T,D).</summary>
    public Tensor Forward(OracleRow[] rows, Tensor x, TokenInfo? info = null)
    {
        var outputs = new List<Tensor>();
        for (int b = 0; b < x.shape[0]; b++)
        {
            var row = new List<Tensor>();
            for (int t = 0; t < x.shape[1]; t++)
            {
                bool starts = At(info?.DocumentStarts, b, t)?.item<bool>() ?? false;
                bool padded = At(info?.KeyPaddingMask, b, t)?.item<bool>() ?? false;
                Tensor weight = At(info?.WriteWeights, b, t) ?? ones([], dtype: ScalarType.Float64);
                row.Add(Step(rows[b], x.select(0, b).select(0, t), starts, padded, weight));
            }

            outputs.Add(stack(row, 0));
        }

        return stack(outputs, 0);
    }

    /// <summary>M of all rows and heads, (B,G,K,V).</summary>
    public static Tensor Memory(OracleRow[] rows) => stack(rows.Select(r => stack(r.Memory, 0)), 0);

    /// <summary>z of all rows and heads, (B,G,K).</summary>
    public static Tensor Normalizer(OracleRow[] rows) => stack(rows.Select(r => stack(r.Normalizer, 0)), 0);

    /// <summary>Detaches the memories and makes them leaves of the graph; leaves the open segment unchanged.</summary>
    public static (Tensor Memory, Tensor Normalizer) MakeLeaf(OracleRow[] rows)
    {
        Tensor memory = Memory(rows).detach().requires_grad_(true), normalizer = Normalizer(rows).detach().requires_grad_(true);
        for (int b = 0; b < rows.Length; b++)
        {
            rows[b].ReplaceMemory(memory.select(0, b), normalizer.select(0, b));
        }

        return (memory, normalizer);
    }

    private static Tensor? At(Tensor? perToken, int b, int t) => perToken?.select(0, b).select(0, t);

    private Tensor Step(OracleRow row, Tensor x, bool starts, bool padded, Tensor weight)
    {
        if (starts)
        {
            row.StartDocument();
        }

        Tensor[] queries = [.. Heads(Project("q_proj", x), K).Select(q => HeadNorm(q, "q_norm.weight"))];
        Tensor[] keys = [.. Heads(Project("k_proj", x), K).Select(k => HeadNorm(k, "k_norm.weight"))];
        Tensor[] values = Heads(Project("v_proj", x), V);
        Tensor[] memoryKeys = options.OwnMemoryProjections ? Heads(matmul(weights["memory_k_proj.weight"], x), K) : keys;
        Tensor[] memoryQueries = options.OwnMemoryProjections ? Heads(matmul(weights["memory_q_proj.weight"], x), K) : queries;
        row.Open.Add(new OracleToken(keys, [.. memoryKeys.Select((k, g) => Normalized(k, "memory_norm.key_scale", g))], values, weight, padded));

        var heads = new List<Tensor>();
        for (int h = 0; h < H; h++)
        {
            heads.Add(Head(row, h, Normalized(memoryQueries[h], "memory_norm.query_scale", h), queries[h]));
        }

        if (row.Open.Count == options.SegmentLength)
        {
            row.Commit();
        }

        return Project("o_proj", cat(heads, 0));
    }

    /// <summary>Equations 6, 7 and 10 for one query: the newest token of the row.</summary>
    private Tensor Head(OracleRow row, int h, Tensor memoryQuery, Tensor query)
    {
        int g = h / (H / G);
        Tensor local = Local(row, g, query);
        Tensor gate = sigmoid(weights["gate"].select(0, h));
        if (row.NothingToRead)
        {
            return options.EmptyMemory == EmptyMemory.LocalOnly ? local : (1 - gate) * local;
        }

        Tensor remembered = Read(Sigma(memoryQuery), row.Memory[g], row.Normalizer[g]);
        if (options.MemoryNorm)
        {
            remembered = weights["memory_norm.read_weight"].select(0, h) * remembered / Rms(remembered);
        }

        return gate * remembered + (1 - gate) * local;
    }

    /// <summary>A key or query of the memory: with MemoryNorm, divided by its root mean square and multiplied by the head's scale.</summary>
    private Tensor Normalized(Tensor x, string scale, int head) => options.MemoryNorm ? weights[scale].select(0, head) * x / Rms(x) : x;

    /// <summary>A query or key before its rotation: with QueryKeyNorm, divided by its root mean square and multiplied by the weight of all heads.</summary>
    private Tensor HeadNorm(Tensor x, string weight) =>
        options.QueryKeyNorm ? weights[weight] * x / (x.square().mean() + options.QueryKeyNormEpsilon).sqrt() : x;

    private static Tensor Rms(Tensor x) => (x.square().mean() + 1e-6).sqrt();

    /// <summary>Local attention of the newest token over its own segment and, with two local segments, the one before.</summary>
    private Tensor Local(OracleRow row, int g, Tensor query)
    {
        OracleToken[] window = [.. row.Earlier, .. row.Open];
        int[] seen = [.. Enumerable.Range(0, window.Length).Where(i => window[i].Visible)];
        if (seen.Length == 0)
        {
            return zeros(V, dtype: ScalarType.Float64);
        }

        Tensor rotatedQuery = Rotate(query, window.Length - 1);
        Tensor scores = stack(seen.Select(i => matmul(Rotate(window[i].Keys[g], i), rotatedQuery)), 0) / Math.Sqrt(K);
        return matmul(softmax(scores, 0), stack(seen.Select(i => window[i].Values[g]), 0));
    }

    private static Tensor[] Heads(Tensor x, int width) =>
        [.. Enumerable.Range(0, (int)x.shape[0] / width).Select(h => x.narrow(0, h * width, width))];

    private Tensor Project(string name, Tensor x)
    {
        Tensor y = matmul(weights[name + ".weight"], x);
        return weights.TryGetValue(name + ".bias", out Tensor? bias) ? y + bias : y;
    }

    /// <summary>Rotates pair i of a vector (K) by position * its frequency, and scales it by the attention factor, as a product with a K x K matrix.</summary>
    private Tensor Rotate(Tensor x, int position)
    {
        if (options.Rotary is not { } rotary)
        {
            return x;
        }

        (double[] frequencies, double factor) = OracleRotary.Of(rotary, K, options.LocalSegments * options.SegmentLength);
        double[] rotation = new double[K * K];
        for (int i = 0; i < K / 2; i++)
        {
            (int a, int b) = rotary.Pairing == RotaryPairing.Halves ? (i, i + K / 2) : (2 * i, 2 * i + 1);
            double angle = position * frequencies[i];
            rotation[a * K + a] = rotation[b * K + b] = factor * Math.Cos(angle);
            rotation[a * K + b] = -factor * Math.Sin(angle);
            rotation[b * K + a] = factor * Math.Sin(angle);
        }

        return matmul(tensor(rotation).reshape(K, K), x);
    }
}
