using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>The method as the paper writes it: a loop over segments, and in each one equations 6, 7, 10 and 8, operator by operator.</summary>
internal sealed class PaperLiteralLoop(LayerWeights weights)
{
    /// <param name="x">(B, T, D), T a multiple of N.</param>
    /// <returns>(B, T, D)</returns>
    public Tensor Forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, n, width) = (x.shape[0], weights.SegmentLength, weights.HeadWidth);
        var hidden = ones(n, n, @bool, x.device).triu(1);
        var share = weights.Gate.sigmoid().view(-1, 1, 1);                 // (H, 1, 1)
        var memory = zeros(batch, weights.Heads, width, width, x.dtype, x.device);
        var normalizer = zeros(batch, weights.Heads, width, 1, x.dtype, x.device);
        var outputs = new List<Tensor>();
        for (var start = 0L; start < x.shape[1]; start += n)
        {
            using var segment = NewDisposeScope();
            var tokens = x.narrow(1, start, n);
            var (q, k, v) = (weights.Project(tokens, weights.Query), weights.Project(tokens, weights.Key), weights.Project(tokens, weights.Value));

            var scores = (q.matmul(k.transpose(-2, -1)) / Math.Sqrt(width)).masked_fill(hidden, double.NegativeInfinity);
            var attended = scores.softmax(-1).matmul(v);                   // equation 6
            if (start > 0)
            {
                var sigmaQ = nn.functional.elu(q, 1) + 1;
                var retrieved = sigmaQ.matmul(memory) / sigmaQ.matmul(normalizer); // equation 7
                attended = share * retrieved + (1 - share) * attended;     // equation 10
            }

            if (start + n < x.shape[1])
            {
                var sigmaK = (nn.functional.elu(k, 1) + 1).transpose(-2, -1);
                memory = (memory + sigmaK.matmul(v)).MoveToOuterDisposeScope(); // equation 8
                normalizer = (normalizer + sigmaK.sum(-1, keepdim: true)).MoveToOuterDisposeScope();
            }

            outputs.Add(weights.ProjectOutput(attended).MoveToOuterDisposeScope());
        }

        return cat(outputs, 1).MoveToOuterDisposeScope();
    }
}
