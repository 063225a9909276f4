using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>
/// Memorizing Transformers (Wu et al., arXiv 2203.08913): in addition to Transformer-XL's attention, each query attends exactly to the 32 most similar of the
/// last R keys before its segment; a learned gate for each head mixes the two. Keys and values are kept without position and without gradient. As in that paper queries and
/// keys have length 1 and a learned scale for each head, here in the search alone, so that the layer is the base's on a single segment.
/// </summary>
public sealed class MemorizingContext : TransformerXLContext
{
    private const int Neighbours = 32;
    private const double InitialScale = 10;

    private readonly Parameter gate, memory_scale; // (H)
    private readonly long capacity; // R
    private (Tensor Keys, Tensor Values)? memory; // (B, H, at most R, K)

    public MemorizingContext(DecoderOptions options) : base(nameof(MemorizingContext), options)
    {
        capacity = 32 * options.SegmentLength;
        gate = new Parameter(zeros(options.Heads));
        memory_scale = new Parameter(full(options.Heads, InitialScale));
        RegisterComponents();
        InitializeProjections();
    }

    /// <summary>Which of the model's layers has the memory: 9 of 12 in that paper.</summary>
    public static int LayerOf(int layers) => ((3 * layers) + 3) / 4 - 1;

    public override Tensor Gate => gate;

    public override long NumbersHeld(long tokens) => base.NumbersHeld(tokens) + (2 * Options.Heads * Options.HeadWidth * capacity);

    protected override Tensor Attend(Tensor q, Tensor k, Tensor v)
    {
        var held = memory?.Keys.size(2) ?? 0;
        var (keys, values) = (All(memory?.Keys, Unit(k)), All(memory?.Values, v));
        var (queries, attended) = (Unit(q), base.Attend(q, k, v));
        var mixed = new List<Tensor>();
        for (var s = 0; s < q.size(1); s++)
        {
            var end = held + (s * Options.SegmentLength);
            var start = Math.Max(0, end - capacity);
            mixed.Add(end == 0 ? attended.select(1, s) : Mix(attended.select(1, s), Nearest(queries.select(1, s), keys.narrow(2, start, end - start), values.narrow(2, start, end - start))));
        }

        ForgetMemory();
        memory = (Newest(keys), Newest(values));
        return stack(mixed, 1);

        static Tensor Unit(Tensor heads) => nn.functional.normalize(heads, dim: -1);

        static Tensor All(Tensor? held, Tensor heads)
        {
            var flat = heads.detach().transpose(1, 2).flatten(2, 3); // (B, H, S*N, K)
            return held is null ? flat : cat([held, flat], 2);
        }

        Tensor Newest(Tensor all) => all.narrow(2, Math.Max(0, all.size(2) - capacity), Math.Min(capacity, all.size(2))).clone().DetachFromDisposeScope();
    }

    /// <summary>Attention of q (B, H, N, K) to the most similar of L keys, (B, H, L, K), all of length 1.</summary>
    /// <remarks>
    /// The search has no gradient: it goes through the keys that are found. Their whole rows are copied, which is faster than gathering single elements.
    /// </remarks>
    private Tensor Nearest(Tensor q, Tensor keys, Tensor values)
    {
        var (batch, heads, n, width, held) = (q.size(0), q.size(1), q.size(2), q.size(3), keys.size(2));
        var count = Math.Min(Neighbours, held);
        var found = Search(q, keys, (int)count).add(arange(0, batch * heads * held, held, int64).view(batch, heads, 1, 1), Numbers.One).flatten();
        var (chosenKeys, chosenValues) = (Rows(keys), Rows(values)); // (B, H, N, 32, K)
        var weights = q.unsqueeze(-2).matmul(chosenKeys.transpose(-2, -1)).mul(memory_scale.view(-1, 1, 1, 1)).softmax(-1);
        return weights.matmul(chosenValues).squeeze(-2);

        Tensor Rows(Tensor of) => of.reshape(-1, width).index_select(0, found).view(batch, heads, n, count, width);
    }

    /// <summary>The places of the keys most similar to each query, (B, H, N, 32).</summary>
    private static Tensor Search(Tensor q, Tensor keys, int count)
    {
        using var noGrad = no_grad();
        return q.matmul(keys.transpose(-2, -1)).topk(count, -1, sorted: false).indexes;
    }

    private Tensor Mix(Tensor local, Tensor retrieved)
    {
        var share = gate.sigmoid().view(-1, 1, 1);
        return retrieved.mul(share).add(local.mul(share.neg().add(Numbers.One, Numbers.One)), Numbers.One);
    }

    public override void Forget()
    {
        base.Forget();
        ForgetMemory();
    }

    private void ForgetMemory()
    {
        memory?.Keys.Dispose();
        memory?.Values.Dispose();
        memory = null;
    }
}
