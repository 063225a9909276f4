using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>Causal attention to all tokens of the document. No gradient flows into those of earlier calls.</summary>
public sealed class FullContext : ProjectedAttention
{
    private (Tensor Keys, Tensor Values)? past; // (B, 1, H, L, K), keys with position

    public FullContext(DecoderOptions options) : base(nameof(FullContext), options)
    {
        RegisterComponents();
        InitializeProjections();
    }

    public override long NumbersHeld(long tokens) => 2 * Options.Heads * Options.HeadWidth * tokens;

    protected override Tensor Attend(Tensor q, Tensor k, Tensor v)
    {
        var (held, n, segments) = (past?.Keys.size(3) ?? 0, Options.SegmentLength, q.size(1));
        using var positions = new RotaryTable(held, segments * n, Options.HeadWidth);
        var (queries, keys, values) = (positions.Rotate(Flat(q)), Flat(k), Flat(v));
        keys = All(past?.Keys, positions.Rotate(keys));
        values = All(past?.Values, values);
        var attended = new List<Tensor>();
        for (long s = 0; s < segments; s++)
        {
            var end = held + ((s + 1) * n);
            var visible = ones(n, end, @bool).tril(end - n).unsqueeze(0);
            attended.Add(Softmax(queries.narrow(3, s * n, n), keys.narrow(3, 0, end), values.narrow(3, 0, end), visible));
        }

        Forget();
        past = (keys.detach().clone().DetachFromDisposeScope(), values.detach().clone().DetachFromDisposeScope());
        return cat(attended, 1);

        static Tensor Flat(Tensor heads) => heads.transpose(1, 2).flatten(2, 3).unsqueeze(1);

        static Tensor All(Tensor? held, Tensor heads) => held is null ? heads : cat([held, heads], 3);
    }

    public override void Forget()
    {
        past?.Keys.Dispose();
        past?.Values.Dispose();
        past = null;
    }
}
