using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Equation 6: A_dot = softmax(Q K^T / sqrt(K)) V, causal, inside each segment.</summary>
/// <remarks>B batch, S segments, G key/value heads, R = H/G query heads of each, n queries, L keys, K key width, V value width.</remarks>
internal static class LocalAttention
{
    /// <summary>
    /// The queries are the last n of their segment's L tokens so far. A query with no key to attend (padding after padding) gets 0.
    /// </summary>
    /// <param name="q">(B, S, n, G, R, K)</param>
    /// <param name="tokens">The L tokens.</param>
    /// <param name="dropout">Probability of dropping a weight.</param>
    /// <param name="isFused">Whether to use libtorch's fused operator, whose gradient cannot be differentiated.</param>
    /// <returns>(B, S, n, G, R, V)</returns>
    public static Tensor Attend(Tensor q, SegmentTokens tokens, double dropout, bool isFused = true)
    {
        using var scope = NewDisposeScope();
        var (k, v, marks, n) = (tokens.LocalKeys, tokens.Values, tokens.Marks, q.size(2));
        if (q.dtype == ScalarType.Float16 && q.device_type == DeviceType.CPU)
        {
            // On a CPU the scores would be float16 too and overflow at 65504; a GPU keeps them in float32.
            (q, k, v) = (q.to(ScalarType.Float32), k.to(ScalarType.Float32), v.to(ScalarType.Float32));
        }

        var visible = marks.Visible(n);
        var isSpoilt = marks.Documents is null ? null : IsSpoilt(k, v);
        if (isSpoilt is not null)
        {
            // Hiding a key is not enough: 0 times NaN is NaN. Queries that see such a key get NaN below.
            (k, v) = (Cleared(k), Cleared(v));
        }

        var output = Describe.As(Product(q, k, v, visible, new(dropout, isFused)), tokens.Values.dtype);
        if (marks.Padding is not null)
        {
            output = output.masked_fill(PerHead(visible!.any(-1).logical_not()), Scalars.Zero);
        }

        if (isSpoilt is not null)
        {
            output = output.masked_fill(PerHead(visible!.logical_and(isSpoilt.unsqueeze(-2)).any(-1)), Scalars.NotANumber);
        }

        return output.MoveToOuterDisposeScope();

        Tensor Cleared(Tensor heads) => heads.masked_fill(isSpoilt!.unsqueeze(-1).unsqueeze(-1), Scalars.Zero);

        static Tensor PerHead(Tensor flags) => flags.unsqueeze(-1).unsqueeze(-1).unsqueeze(-1); // (B, S, n) -> (B, S, n, 1, 1, 1)
    }

    private readonly record struct Kernel(double Dropout, bool IsFused)
    {
        public Tensor Call(Tensor q, Tensor k, Tensor v, Tensor? visible, bool isCausal) => IsFused
            ? nn.functional.scaled_dot_product_attention(q, k, v, visible, Dropout, isCausal)
            : Composed(q, k, v, isCausal ? SegmentMarks.Causal(q.size(2), k.size(2), q.device) : visible);

        private Tensor Composed(Tensor q, Tensor k, Tensor v, Tensor? visible)
        {
            using Scalar scale = 1 / Math.Sqrt(q.size(3));
            var scores = q.mul(scale).matmul(k.transpose(-2, -1));
            var weights = (visible is null ? scores : scores.masked_fill(visible.logical_not(), Scalars.MinusInfinity)).softmax(-1);
            return (Dropout > 0 ? nn.functional.dropout(weights, Dropout) : weights).matmul(v);
        }
    }

    /// <param name="q">(B, S, n, G, R, K)</param>
    /// <param name="k">(B, S, L, G, K)</param>
    /// <param name="v">(B, S, L, G, V)</param>
    /// <param name="visible">(B, S, n, L); null if only the causal mask applies.</param>
    /// <param name="kernel">How the product is computed.</param>
    /// <returns>(B, S, n, G, R, V)</returns>
    private static Tensor Product(Tensor q, Tensor k, Tensor v, Tensor? visible, Kernel kernel)
    {
        var (batch, segments, n, heads, group, width) = QueryShape.Of(q);
        var (length, valueWidth) = (k.size(2), v.size(4));
        var isCausal = visible is null && n == length;
        if (isCausal && group > 1)
        {
            // The heads that share a key head read it through a stride of 0: keys and values are never copied per head.
            var rows = batch * segments * heads;
            return kernel.Call(
                    q.permute(0, 1, 3, 4, 2, 5).reshape(rows, group, n, width),
                    k.transpose(2, 3).reshape(rows, 1, n, width).expand(rows, group, n, width),
                    v.transpose(2, 3).reshape(rows, 1, n, valueWidth).expand(rows, group, n, valueWidth),
                    null, isCausal)
                .view(batch, segments, heads, group, n, valueWidth).permute(0, 1, 4, 2, 3, 5);
        }

        // The heads that share a key head are stacked as rows of queries.
        var (queries, mask) = group == 1
            ? (q.reshape(batch * segments, n, heads, width).transpose(1, 2), Rows(visible, n, length, q.device))
            : (q.permute(0, 1, 3, 4, 2, 5).reshape(batch * segments, heads, group * n, width), Repeated(Rows(visible, n, length, q.device), group));
        var product = kernel.Call(
            queries,
            k.reshape(batch * segments, length, heads, width).transpose(1, 2),
            v.reshape(batch * segments, length, heads, valueWidth).transpose(1, 2),
            isCausal ? null : mask, isCausal);
        return group == 1
            ? product.transpose(1, 2).view(batch, segments, n, heads, 1, valueWidth)
            : product.view(batch, segments, heads, group, n, valueWidth).permute(0, 1, 4, 2, 3, 5);
    }

    /// <summary>The mask of a row's queries, (B*S or 1, 1, n, L); null if a single query sees every key. A query with nothing to attend sees everything.</summary>
    private static Tensor? Rows(Tensor? visible, long n, long length, Device device)
    {
        if (visible is null)
        {
            return n == 1 || n == length ? null : SegmentMarks.Causal(n, length, device).view(1, 1, n, length);
        }

        return visible.logical_or(visible.any(-1, true).logical_not()).view(-1, 1, n, length);
    }

    /// <summary>The mask for each of the heads that share a key head, (B*S or 1, 1, R*n, L).</summary>
    private static Tensor? Repeated(Tensor? mask, long group) => mask?.expand(mask.size(0), group, mask.size(2), mask.size(3))
        .reshape(mask.size(0), 1, group * mask.size(2), mask.size(3));

    /// <summary>Which tokens have a key or value that is not finite, (B, S, L).</summary>
    private static Tensor IsSpoilt(Tensor k, Tensor v) => IsFinite(k).logical_and(IsFinite(v)).logical_not();

    private static Tensor IsFinite(Tensor heads) => heads.detach().isfinite().flatten(3).all(-1);
}
