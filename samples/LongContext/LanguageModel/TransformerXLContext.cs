using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>
/// Transformer-XL (Dai et al., arXiv 1901.02860): each segment also attends to the whole segment before it, whose keys and values are kept without gradient.
/// Rotary positions encode the distance between query and key, instead of that paper's learned term.
/// </summary>
public class TransformerXLContext : ProjectedAttention
{
    private (Tensor Keys, Tensor Values)? before; // (B, 1, H, N, K), keys without position

    public TransformerXLContext(DecoderOptions options) : this(nameof(TransformerXLContext), options)
    {
        RegisterComponents();
        InitializeProjections();
    }

    protected TransformerXLContext(string name, DecoderOptions options) : base(name, options)
    {
    }

    public override long NumbersHeld(long tokens) => 2 * Options.Heads * Options.HeadWidth * Options.SegmentLength;

    protected override Tensor Attend(Tensor q, Tensor k, Tensor v)
    {
        var (n, segments) = (Options.SegmentLength, q.size(1));
        var (keysBefore, valuesBefore) = (Before(before?.Keys, k), Before(before?.Values, v));
        var visible = ones(n, 2 * n, @bool).tril(n).repeat(segments, 1, 1); // (S, N, 2N)
        if (before is null)
        {
            visible[0].narrow(1, 0, n).fill_(false);
        }

        var attended = Softmax(Rotate(q), cat([Rotate(keysBefore, -n), Rotate(k)], 3), cat([valuesBefore, v], 3), visible);
        ForgetSegment();
        before = (Last(k), Last(v));
        return attended;

        // The segment before each, (B, S, H, N, K)
        Tensor Before(Tensor? last, Tensor heads) => cat([last ?? zeros_like(heads.narrow(1, 0, 1)), heads.narrow(1, 0, segments - 1).detach()], 1);

        Tensor Last(Tensor heads) => heads.narrow(1, segments - 1, 1).detach().clone().DetachFromDisposeScope();
    }

    public override void Forget() => ForgetSegment();

    private void ForgetSegment()
    {
        before?.Keys.Dispose();
        before?.Values.Dispose();
        before = null;
    }
}
