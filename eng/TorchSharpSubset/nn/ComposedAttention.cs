using static TorchSharp.torch;

namespace TorchSharp.Subset;

/// <summary>
/// Scaled dot product attention for a libtorch that lacks the operator (before 2.0): a block of query rows after the other, and of the
/// batch entries as many at a time as keep the scores small, so that they are never there for all rows, heads and segments at once.
/// </summary>
internal static class ComposedAttention
{
    private const long MaxScores = 1 << 22;
    private const long RowsPerBlock = 256;

    internal static Tensor Of(Tensor query, Tensor key, Tensor value, Tensor? mask, double dropout, bool causal)
    {
        using var scope = NewDisposeScope();
        if (query.ndim < 3 || query.ndim != key.ndim || mask is { ndim: > 2 })
            return Rows(query, key, value, mask, dropout, causal).MoveToOuterDisposeScope();
        long[] batch = query.shape[..^2], queryShape = query.shape, valueShape = value.shape;
        long rows = queryShape[^2], columns = valueShape[^2], entries = batch.TotalSize();
        var perBlock = Math.Max(1, MaxScores / Math.Max(1, Math.Min(rows, RowsPerBlock) * columns));
        if (entries <= perBlock || !key.shape[..^2].SequenceEqual(batch) || !valueShape[..^2].SequenceEqual(batch))
            return Rows(query, key, value, mask, dropout, causal).MoveToOuterDisposeScope();
        Tensor q = query.reshape(entries, rows, queryShape[^1]), k = key.reshape(entries, columns, queryShape[^1]), v = value.reshape(entries, columns, valueShape[^1]);
        var blocks = new List<Tensor>();
        for (var start = 0L; start < entries; start += perBlock) {
            var count = Math.Min(perBlock, entries - start);
            blocks.Add(Rows(q.narrow(0, start, count), k.narrow(0, start, count), v.narrow(0, start, count), mask, dropout, causal));
        }
        return cat(blocks, 0).view([.. batch, rows, valueShape[^1]]).MoveToOuterDisposeScope();
    }

    private static Tensor Rows(Tensor query, Tensor key, Tensor value, Tensor? mask, double dropout, bool causal)
    {
        using var scope = NewDisposeScope();
        var rows = query.shape[^2];
        if (rows <= RowsPerBlock) return Block(query, key, value, mask, dropout, causal, 0).MoveToOuterDisposeScope();
        var blocks = new List<Tensor>();
        for (var start = 0L; start < rows; start += RowsPerBlock) {
            var count = Math.Min(RowsPerBlock, rows - start);
            // Of a causal block the keys behind its last row are masked in every row: they are left out.
            var columns = causal ? Math.Min(start + count, key.shape[^2]) : key.shape[^2];
            var part = mask is null ? null : mask.shape[^2] == 1 ? mask : mask.narrow(-2, start, count);
            blocks.Add(Block(query.narrow(-2, start, count), key.narrow(-2, 0, columns), value.narrow(-2, 0, columns), part, dropout, causal, start));
        }
        return cat(blocks, -2).MoveToOuterDisposeScope();
    }

    private static Tensor Block(Tensor query, Tensor key, Tensor value, Tensor? mask, double dropout, bool causal, long firstRow)
    {
        using var scope = NewDisposeScope();
        var scores = matmul(query * (1 / Math.Sqrt(query.shape[^1])), key.transpose(-2, -1));
        if (causal) {
            using var masked = ones(query.shape[^2], key.shape[^2], dtype: ScalarType.Bool, device: query.device).triu(firstRow + 1);
            scores = scores.masked_fill(masked, double.NegativeInfinity);
        } else if (mask is not null) {
            scores = mask.dtype == ScalarType.Bool ? scores.masked_fill(mask.logical_not(), double.NegativeInfinity) : scores + mask;
        }
        var weights = scores.softmax(-1);
        if (dropout > 0) weights = nn.functional.dropout(weights, dropout);
        return matmul(weights, value).MoveToOuterDisposeScope();
    }
}
