using System.Numerics;
using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The element-wise work of equations 7 to 10 on a CPU without gradients, in three vectorised passes instead of about twenty
/// operators that each read and write memory: keys, queries, mix. They compute the same as <see cref="FeatureMap"/>,
/// <see cref="CompressiveMemory"/> and <see cref="GatedMix"/>, which are their oracle and handle all other cases.
/// </summary>
/// <remarks>B batch, S segments, n tokens of each (N if whole), G key/value heads, R = H/G query heads of each, K key width, V value width.</remarks>
internal static class HostPasses
{
    /// <summary>Whether the passes can process heads (B, S, n, …, K): gradients off, on a CPU, in the memory's type, contiguous, a multiple of a vector wide.</summary>
    public static bool Takes(Tensor heads, ScalarType memoryType) =>
        HostVector.HasExp && heads.dtype == memoryType && heads.size(2) > 1 && AreVectors(heads);

    /// <summary>Whether <see cref="ReadAndMix(Tensor, CompressiveMemory, Tensor, ReadRule, Tensor)"/> can process queries (B, S, n, G, R, K) and A_dot (B, S, n, G, R, V).</summary>
    public static bool TakesMix(Tensor q, Tensor local) => Takes(q, local.dtype) && HostVector.IsWhole(local) && HostVector.FitsSpan(local);

    /// <summary>sigma(K) and V per head, and the sum of sigma(K) over the tokens of each segment.</summary>
    /// <param name="keys">(B, S, N, G, K)</param>
    /// <param name="values">(B, S, N, G, V)</param>
    /// <param name="norm">The norms on the memory's path; null for none.</param>
    /// <returns>(B*S*G, N, K), (B*S*G, N, V) and (B, S, G, K)</returns>
    public static (Tensor SigmaK, Tensor Values, Tensor Sums) Keys(Tensor keys, Tensor values, NormScales? norm = null)
    {
        var (batch, segments, length, heads) = (keys.size(0), keys.size(1), keys.size(2), keys.size(3));
        var sigmaK = empty([batch * segments * heads, length, keys.size(4)], keys.dtype, CPU);
        var apart = empty([batch * segments * heads, length, values.size(4)], keys.dtype, CPU);
        var sums = empty([batch, segments, heads, keys.size(4)], keys.dtype, CPU);
        var written = new WrittenKeys(sigmaK, apart, sums);
        if (keys.dtype == ScalarType.Float64)
        {
            Keys(keys, values, HostNorm<double>.Of(norm), written);
        }
        else
        {
            Keys(keys, values, HostNorm<float>.Of(norm), written);
        }

        return (sigmaK, apart, sums);
    }

    /// <summary>Sums over the segments before each one, and over all: <see cref="SegmentScan"/> for the linear rule.</summary>
    /// <param name="initial">The value before the first segment, (B, G, …)</param>
    /// <param name="added">What each segment adds, (B, S, G, …), contiguous.</param>
    /// <returns>(B, S, G, …) and (B, G, …)</returns>
    public static (Tensor Before, Tensor After) Sums(Tensor initial, Tensor added)
    {
        var (before, after) = (empty_like(added), empty(Describe.Sizes(initial), initial.dtype, CPU));
        using var first = initial.contiguous();
        if (added.dtype == ScalarType.Float64)
        {
            Sums<double>(first, added, before, after);
        }
        else
        {
            Sums<float>(first, added, before, after);
        }

        return (before, after);
    }

    /// <summary>Whether (B, S, G, …) can be summed by <see cref="Sums(Tensor, Tensor)"/>.</summary>
    public static bool TakesSums(Tensor added) => AreVectors(added);

    /// <summary>Equations 7 and 10. The share of the memory and the denominator go into the rows of sigma(Q) before the product with M.</summary>
    /// <param name="q">(B, S, n, G, R, K)</param>
    /// <param name="memory">The memory before each segment.</param>
    /// <param name="beta">The gates, (H)</param>
    /// <param name="rule">What a query that finds nothing gets, and the norms.</param>
    /// <param name="local">A_dot, (B, S, n, G, R, V); overwritten.</param>
    /// <returns>A, (B, S, n, G, R, V)</returns>
    public static Tensor ReadAndMix(Tensor q, CompressiveMemory memory, Tensor beta, ReadRule rule, Tensor local) => q.dtype == ScalarType.Float64
        ? ReadAndMix<double>(q, memory, beta, rule, local)
        : ReadAndMix<float>(q, memory, beta, rule, local);

    private static Tensor ReadAndMix<T>(Tensor q, CompressiveMemory memory, Tensor beta, ReadRule rule, Tensor local)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        using var scope = NewDisposeScope();
        var (batch, segments, n, heads, group, width) = QueryShape.Of(q);
        var rows = empty([batch * segments * heads, group * n, width], q.dtype, CPU);
        var localShares = empty([batch * segments, n, heads * group], q.dtype, CPU);
        var (z, gates, mixed) = (memory.Z.contiguous(), Describe.As(beta, q.dtype).contiguous(), local.contiguous());
        var norm = HostNorm<T>.Of(rule.Norm);
        Queries(q, z, gates, norm, new(rows, localShares, rule.Empty == EmptyMemory.Gated));
        var product = rows.bmm(memory.M.reshape(-1, width, memory.M.size(4)));
        Mix(mixed, localShares, product, norm);
        return mixed.alias().MoveToOuterDisposeScope();
    }

    private static bool AreVectors(Tensor tensor) => !is_grad_enabled() && HostVector.AreVectors(tensor);

    /// <summary>Where the pass over the keys writes.</summary>
    private sealed record WrittenKeys(Tensor SigmaK, Tensor Values, Tensor Sums);

    private static void Keys<T>(Tensor keys, Tensor values, HostNorm<T>? norm, WrittenKeys written)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var (length, heads, width, valueWidth) = ((int)keys.size(2), (int)keys.size(3), (int)keys.size(4), (int)values.size(4));
        HostVector.ForEach(written.SigmaK.size(0), (first, end) =>
        {
            Span<Vector<T>> k = HostVector.Of<T>(keys), v = HostVector.Of<T>(values);
            Span<Vector<T>> sigma = HostVector.Of<T>(written.SigmaK), a = HostVector.Of<T>(written.Values), z = HostVector.Of<T>(written.Sums);
            var (kWidth, vWidth) = (width / Vector<T>.Count, valueWidth / Vector<T>.Count);
            for (var p = first; p < end; p++)
            {
                var (segment, head) = (p / heads, p % heads);
                var sum = z.Slice(p * kWidth, kWidth);
                sum.Clear();
                for (var t = 0; t < length; t++)
                {
                    var token = (((segment * length) + t) * heads) + head;
                    var target = sigma.Slice(((p * length) + t) * kWidth, kWidth);
                    var source = k.Slice(token * kWidth, kWidth);
                    var scale = new Vector<T>(norm is null ? T.One : norm.KeyScales[head] * HostNorm<T>.InverseRms(source));
                    for (var i = 0; i < target.Length; i++)
                    {
                        var feature = HostVector.Sigma(source[i] * scale);
                        target[i] = feature;
                        sum[i] += feature;
                    }

                    v.Slice(token * vWidth, vWidth).CopyTo(a.Slice(((p * length) + t) * vWidth, vWidth));
                }
            }
        });
    }

    private static void Sums<T>(Tensor initial, Tensor added, Tensor before, Tensor after)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var (batch, segments) = ((int)added.size(0), (int)added.size(1));
        var length = (int)(added.numel() / batch / segments) / Vector<T>.Count;
        HostVector.ForEach(length, (first, end) =>
        {
            Span<Vector<T>> start = HostVector.Of<T>(initial), writes = HostVector.Of<T>(added);
            Span<Vector<T>> sums = HostVector.Of<T>(before), last = HostVector.Of<T>(after);
            for (var row = 0; row < batch; row++)
            {
                var running = last.Slice((row * length) + first, end - first);
                start.Slice((row * length) + first, end - first).CopyTo(running);
                for (var s = 0; s < segments; s++)
                {
                    var place = (((row * segments) + s) * length) + first;
                    running.CopyTo(sums.Slice(place, running.Length));
                    var write = writes.Slice(place, running.Length);
                    for (var i = 0; i < running.Length; i++)
                    {
                        running[i] += write[i];
                    }
                }
            }
        });
    }

    /// <summary>Where the pass over the queries writes.</summary>
    /// <param name="Rows">sigma(Q) sigmoid(beta) / (sigma(Q) z), with norms sigma(Q) / (sigma(Q) z), (B*S*G, R*n, K)</param>
    /// <param name="LocalShares">The share of A_dot, (B*S, n, G*R)</param>
    /// <param name="IsGated">Whether the gate also applies to a query that finds nothing.</param>
    private sealed record ScaledQueries(Tensor Rows, Tensor LocalShares, bool IsGated);

    private static void Queries<T>(Tensor q, Tensor normalizer, Tensor gates, HostNorm<T>? norm, ScaledQueries scaled)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var (n, heads, group, width) = ((int)q.size(2), (int)q.size(3), (int)q.size(4), (int)q.size(5));
        HostVector.ForEach(scaled.Rows.size(0), (first, end) =>
        {
            Span<Vector<T>> queries = HostVector.Of<T>(q), z = HostVector.Of<T>(normalizer), rows = HostVector.Of<T>(scaled.Rows);
            Span<T> beta = HostVector.Elements<T>(gates), localShares = HostVector.Elements<T>(scaled.LocalShares);
            var length = width / Vector<T>.Count;
            for (var p = first; p < end; p++)
            {
                var (segment, head) = (p / heads, p % heads);
                var normal = z.Slice(p * length, length);
                for (var r = 0; r < group; r++)
                {
                    var share = T.One / (T.One + T.Exp(-beta[(head * group) + r]));
                    for (var t = 0; t < n; t++)
                    {
                        var token = (((segment * n) + t) * heads * group) + (head * group) + r;
                        var row = rows.Slice(((((p * group) + r) * n) + t) * length, length);
                        var query = queries.Slice(token * length, length);
                        var scale = new Vector<T>(norm is null ? T.One : norm.QueryScales[(head * group) + r] * HostNorm<T>.InverseRms(query));
                        var dot = Vector<T>.Zero;
                        for (var i = 0; i < row.Length; i++)
                        {
                            var feature = HostVector.Sigma(query[i] * scale);
                            row[i] = feature;
                            dot += feature * normal[i];
                        }

                        var denominator = Vector.Sum(dot);
                        var isFound = denominator != T.Zero; // NaN counts as found: a spoilt memory must not pass for an empty one
                        localShares[token] = T.One - (isFound || scaled.IsGated ? share : T.Zero);
                        var factor = new Vector<T>(isFound ? (norm is null ? share : T.One) / denominator : T.Zero);
                        for (var i = 0; i < row.Length; i++)
                        {
                            row[i] *= factor;
                        }
                    }
                }
            }
        });
    }

    /// <summary>local * its share + product, in place; with norms the product is A_mem, which is normalised here.</summary>
    /// <param name="local">(B, S, n, G, R, V)</param>
    /// <param name="shares">(B*S, n, G*R)</param>
    /// <param name="product">(B*S*G, R*n, V)</param>
    /// <param name="norm">The norms; null for none.</param>
    private static void Mix<T>(Tensor local, Tensor shares, Tensor product, HostNorm<T>? norm)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var (n, heads, length) = ((int)local.size(2), (int)(local.size(3) * local.size(4)), (int)local.size(5) / Vector<T>.Count);
        HostVector.ForEach(shares.size(0) * n, (first, end) =>
        {
            Span<Vector<T>> a = HostVector.Of<T>(local), read = HostVector.Of<T>(product);
            Span<T> localShares = HostVector.Elements<T>(shares);
            ReadOnlySpan<Vector<T>> weights = norm is null ? [] : MemoryMarshal.Cast<T, Vector<T>>(norm.ReadWeights);
            for (var token = first; token < end; token++)
            {
                var (segment, t) = (token / n, token % n);
                for (var head = 0; head < heads; head++)
                {
                    var row = a.Slice(((token * heads) + head) * length, length);
                    var added = read.Slice(((((segment * heads) + head) * n) + t) * length, length);
                    var localShare = localShares[(token * heads) + head];
                    var share = new Vector<T>(localShare);
                    if (norm is null)
                    {
                        for (var i = 0; i < row.Length; i++)
                        {
                            row[i] = (row[i] * share) + added[i];
                        }

                        continue;
                    }

                    var factor = new Vector<T>((T.One - localShare) * HostNorm<T>.InverseRms(added)); // a query that finds nothing has 0 here
                    var weight = weights.Slice(head * length, length);
                    for (var i = 0; i < row.Length; i++)
                    {
                        row[i] = (row[i] * share) + (added[i] * weight[i] * factor);
                    }
                }
            }
        });
    }
}
