using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

/// <summary>Compares the code that docs/equations.md shows with the layer.</summary>
public class PaperSnippets
{
    #region the paper, literally
    /// <summary>One head: q, k (T, K) and v (T, V), T a multiple of N, from an empty memory. Returns A (T, V) and the memory after.</summary>
    private static (Tensor A, Tensor M, Tensor Z) InfiniAttention(Tensor q, Tensor k, Tensor v, Tensor beta, int n, bool delta)
    {
        var (m, z) = (zeros([k.shape[1], v.shape[1]], k.dtype), zeros([k.shape[1]], k.dtype));
        var outputs = new List<Tensor>();
        for (var start = 0; start < q.shape[0]; start += n)
        {
            var (qs, ks, vs) = (q.narrow(0, start, n), k.narrow(0, start, n), v.narrow(0, start, n));

            // 6: A_dot = softmax(Q K^T / sqrt(d)) V
            var hidden = ones([n, n], @bool).triu(1);
            var local = (qs.matmul(ks.t()) / Math.Sqrt(k.shape[1])).masked_fill(hidden, double.NegativeInfinity).softmax(-1).matmul(vs);

            // 7: A_mem = sigma(Q) M / (sigma(Q) z)
            var sigmaQ = nn.functional.elu(qs, 1) + 1;
            var retrieved = sigmaQ.matmul(m) / sigmaQ.matmul(z).unsqueeze(-1);

            // 8: M += sigma(K)^T V, z += sum of sigma(K); 9: what the keys retrieve already is subtracted from V
            var sigmaK = nn.functional.elu(ks, 1) + 1;
            var written = delta && start > 0 ? vs - (sigmaK.matmul(m) / sigmaK.matmul(z).unsqueeze(-1)) : vs;
            (m, z) = (m + sigmaK.t().matmul(written), z + sigmaK.sum(dim: 0));

            // 10: A = sigmoid(beta) A_mem + (1 - sigmoid(beta)) A_dot; with nothing in memory A_dot alone
            outputs.Add(start == 0 ? local : (beta.sigmoid() * retrieved) + ((1 - beta.sigmoid()) * local));
        }

        return (cat(outputs, 0), m, z);
    }
    #endregion

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_layer_computes_what_the_page_shows(bool delta)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        manual_seed(4);
        var options = new InfiniAttentionOptions { EmbedDim = 8, NumHeads = 2, SegmentLength = 6, Update = delta ? MemoryUpdate.Delta : MemoryUpdate.Linear, GateInitPerHead = [0.7, -1.2] };
        var layer = new InfiniAttentionModule(options, dtype: ScalarType.Float64);
        var weights = layer.state_dict();
        Tensor x = randn([1, 30, 8], ScalarType.Float64);
        (Tensor y, MemoryState state) = layer.ForwardFrom(null, x);
        var heads = new List<Tensor>();
        for (int head = 0; head < 2; head++)
        {
            (Tensor a, Tensor m, Tensor z) = InfiniAttention(Head("q"), Head("k"), Head("v"), weights["gate"][head], 6, delta);
            heads.Add(a);
            Difference.Close(m, state.Memory[0, head], 1e-12, $"M of head {head}");
            Difference.Close(z, state.Normalizer[0, head], 1e-12, $"z of head {head}");

            Tensor Head(string name) => x[0].matmul(weights[$"{name}_proj.weight"].t()).narrow(1, 4 * head, 4);
        }

        Difference.Close(cat(heads, 1).matmul(weights["o_proj.weight"].t()), y[0], 1e-12, "outputs");
    }
}
