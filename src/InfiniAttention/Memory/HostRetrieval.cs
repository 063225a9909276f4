using System.Numerics;
using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Equations 7 and 10 for one query of each head on a CPU, in one pass over M. A one-token step needs little arithmetic; as
/// twenty separate operators it would cost more than projections and local attention together.
/// </summary>
/// <remarks>B batch, G key/value heads, R query heads of each, K key width, V value width.</remarks>
internal static class HostRetrieval
{
    /// <summary>The most elements of M, counted once per query, that one thread reads faster than operators do.</summary>
    private const long MostElements = 1 << 17;

    /// <summary>Whether it can be used: one token, gradients off, on a CPU, a small memory, contiguous tensors.</summary>
    /// <param name="q">(B, S, n, G, R, K)</param>
    /// <param name="memory">The memory before the token's segment.</param>
    public static bool Takes(Tensor q, CompressiveMemory memory) =>
        !is_grad_enabled() && q.size(1) == 1 && q.size(2) == 1 && memory.M.device_type == DeviceType.CPU && q.dtype == memory.M.dtype
        && memory.M.numel() * q.size(4) <= MostElements
        && q.is_contiguous() && memory.M.is_contiguous() && memory.Z.is_contiguous();

    /// <summary>A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot, with A_mem = sigma(q) M / (sigma(q) z), or with the norms on the memory's path.</summary>
    /// <param name="q">(B, 1, 1, G, R, K)</param>
    /// <param name="memory">The memory before the token's segment.</param>
    /// <param name="beta">The gates, (H)</param>
    /// <param name="rule">What a query that finds nothing gets, and the norms.</param>
    /// <param name="local">A_dot, (B, 1, 1, G, R, V); overwritten.</param>
    /// <returns>(B, 1, 1, G, R, V)</returns>
    public static Tensor Mix(Tensor q, CompressiveMemory memory, Tensor beta, ReadRule rule, Tensor local)
    {
        var mixed = local.contiguous();
        if (mixed.dtype == ScalarType.Float64)
        {
            Mix<double>(q, memory, beta, rule, mixed);
        }
        else
        {
            Mix<float>(q, memory, beta, rule, mixed);
        }

        return mixed;
    }

    private static void Mix<T>(Tensor q, CompressiveMemory memory, Tensor gates, ReadRule rule, Tensor mixed)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        var (width, valueWidth, queriesPerKey) = ((int)memory.M.size(3), (int)memory.M.size(4), (int)q.size(4));
        ReadOnlySpan<T> queries = HostVector.Elements<T>(q), m = HostVector.Elements<T>(memory.M), z = HostVector.Elements<T>(memory.Z), beta = HostVector.Elements<T>(gates);
        var outputs = HostVector.Elements<T>(mixed);
        var floor = T.CreateChecked(typeof(T) == typeof(double) ? Scalars.LowestExponent64 : Scalars.LowestExponent32);
        var norm = HostNorm<T>.Of(rule.Norm);
        Span<T> sigma = new T[width], read = new T[valueWidth];
        for (var i = 0; i < queries.Length / width; i++)
        {
            var head = i / queriesPerKey; // of B*G
            var query = queries.Slice(i * width, width);
            var scale = norm is null ? T.One : norm.QueryScales[i % beta.Length] * HostNorm<T>.InverseRms(Dot(query, query), width);
            for (var k = 0; k < width; k++)
            {
                var x = query[k] * scale;
                sigma[k] = T.Max(x, T.Zero) + T.Exp(T.Clamp(x, floor, T.Zero));
            }

            var denominator = Dot(sigma, z.Slice(head * width, width));
            var share = T.One / (T.One + T.Exp(-beta[i % beta.Length]));
            var isFound = denominator != T.Zero; // NaN counts as found: a spoilt memory must not pass for an empty one
            var output = outputs.Slice(i * valueWidth, valueWidth);
            Scale(output, T.One - (isFound || rule.Empty == EmptyMemory.Gated ? share : T.Zero));
            if (isFound)
            {
                read.Clear();
                var matrix = m.Slice(head * width * valueWidth, width * valueWidth);
                for (var k = 0; k < width; k++)
                {
                    AddScaled(read, matrix.Slice(k * valueWidth, valueWidth), sigma[k] / denominator);
                }

                if (norm is not null)
                {
                    share *= HostNorm<T>.InverseRms(Dot<T>(read, read), valueWidth);
                    Multiply(read, norm.ReadWeights.AsSpan(i % beta.Length * valueWidth, valueWidth));
                }

                AddScaled(output, read, share);
            }
        }
    }

    private static T Dot<T>(ReadOnlySpan<T> a, ReadOnlySpan<T> b)
        where T : unmanaged, INumber<T>
    {
        ReadOnlySpan<Vector<T>> vectorsA = MemoryMarshal.Cast<T, Vector<T>>(a), vectorsB = MemoryMarshal.Cast<T, Vector<T>>(b);
        var sums = Vector<T>.Zero;
        for (var i = 0; i < vectorsA.Length; i++)
        {
            sums += vectorsA[i] * vectorsB[i];
        }

        var sum = Vector.Sum(sums);
        for (var i = vectorsA.Length * Vector<T>.Count; i < a.Length; i++)
        {
            sum += a[i] * b[i];
        }

        return sum;
    }

    private static void Scale<T>(Span<T> target, T factor)
        where T : unmanaged, INumber<T>
    {
        foreach (ref var element in target)
        {
            element *= factor;
        }
    }

    private static void Multiply<T>(Span<T> target, ReadOnlySpan<T> factors)
        where T : unmanaged, INumber<T>
    {
        for (var i = 0; i < target.Length; i++)
        {
            target[i] *= factors[i];
        }
    }

    /// <summary>target += factor * row</summary>
    private static void AddScaled<T>(Span<T> target, ReadOnlySpan<T> row, T factor)
        where T : unmanaged, INumber<T>
    {
        var targets = MemoryMarshal.Cast<T, Vector<T>>(target);
        var rows = MemoryMarshal.Cast<T, Vector<T>>(row);
        var factors = new Vector<T>(factor);
        for (var i = 0; i < rows.Length; i++)
        {
            targets[i] += factors * rows[i];
        }

        for (var i = rows.Length * Vector<T>.Count; i < row.Length; i++)
        {
            target[i] += factor * row[i];
        }
    }
}
