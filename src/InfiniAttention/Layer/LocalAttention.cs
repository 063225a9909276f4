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
    /// <param name="q">(B, S, G, R, n, K)</param>
    /// <param name="k">(B, S, G, L, K)</param>
    /// <param name="v">(B, S, G, L, V)</param>
    /// <param name="marks">Padding and documents of the L tokens.</param>
    /// <param name="dropout">Probability of dropping a weight.</param>
    /// <returns>(B, S, G, R, n, V)</returns>
    public static Tensor Attend(Tensor q, Tensor k, Tensor v, SegmentMarks marks, double dropout)
    {
        using var scope = NewDisposeScope();
        if (q.dtype == ScalarType.Float16 && q.device_type == DeviceType.CPU)
        {
            // On a CPU the scores would be half too, and overflow at 65504; a GPU keeps them in float32 by itself.
            return Attend(q.to(ScalarType.Float32), k.to(ScalarType.Float32), v.to(ScalarType.Float32), marks, dropout).to(ScalarType.Float16).MoveToOuterDisposeScope();
        }

        var (batch, segments, heads, group, n, width) = Describe.SixDimensions(q);
        var (length, valueWidth) = (k.size(3), v.size(4));
        var (mask, hasKey) = marks.LocalMask(n);
        Tensor output;
        if (mask is null && n == length && group > 1)
        {
            // The heads that share a key head read it through a stride of 0: keys and values are never copied.
            var rows = segments * batch * heads;
            output = nn.functional.scaled_dot_product_attention(
                q.reshape(rows, group, n, width),
                k.reshape(rows, 1, n, width).expand(rows, group, n, width),
                v.reshape(rows, 1, n, valueWidth).expand(rows, group, n, valueWidth),
                null, dropout, true);
        }
        else
        {
            // The heads that share a key head stand one below the other as rows of queries.
            var rows = segments * batch;
            var causal = mask is null && n == length;
            var visible = causal ? null : Visible(mask, length, n, group, q.device);
            output = nn.functional.scaled_dot_product_attention(
                q.reshape(rows, heads, group * n, width),
                k.reshape(rows, heads, length, width),
                v.reshape(rows, heads, length, valueWidth),
                visible, dropout, causal);
        }

        output = output.view(batch, segments, heads, group, n, valueWidth);
        if (hasKey is not null)
        {
            output = output.masked_fill(~hasKey.view(batch, segments, 1, 1, n, 1), Scalars.Zero);
        }

        return output.MoveToOuterDisposeScope();
    }

    /// <summary>The mask of a group's rows of queries: (B*S or 1, 1, R*n, L); null where a single query sees every key.</summary>
    private static Tensor? Visible(Tensor? mask, long length, long n, long group, Device device)
    {
        if (mask is null)
        {
            if (n == 1)
            {
                return null;
            }

            mask = Causal(n, length, device).unsqueeze(0).unsqueeze(0);
        }

        var rows = mask.size(0) * mask.size(1);
        return group == 1
            ? mask.reshape(-1, 1, n, length)
            : mask.reshape(rows, 1, 1, n, length).expand(rows, 1, group, n, length).reshape(rows, 1, group * n, length);
    }

    /// <summary>(n, L): query i, the token L - n + i, sees the tokens up to itself.</summary>
    public static Tensor Causal(long n, long length, Device device) => ones(n, length, @bool, device).tril(length - n);
}
