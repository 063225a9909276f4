using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>
/// An attention that reads documents in calls of whole segments, and keeps what it needs of the past between them. B batch, S segments, N tokens of each,
/// H heads, K width of a head, D model width.
/// </summary>
public abstract class ContextAttention : nn.Module<Tensor, Tensor>
{
    protected ContextAttention(string name) : base(name)
    {
    }

    /// <summary>Starts new documents.</summary>
    public virtual void Forget()
    {
    }

    /// <summary>Detaches what is kept from its graph.</summary>
    public virtual void Detach()
    {
    }

    /// <summary>How many numbers of the past are kept for one document, once it is long enough.</summary>
    public abstract long NumbersHeld { get; }
}

/// <summary>An attention with its own projections q, k, v and o, and rotary positions.</summary>
public abstract class ProjectedAttention : ContextAttention
{
    private const double RotaryBase = 10000;

    private readonly Linear q_proj, k_proj, v_proj, o_proj;
    private readonly Tensor cos, sin; // (2N, K), of positions -N to N-1

    protected ProjectedAttention(string name, DecoderOptions options) : base(name)
    {
        Options = options;
        var inner = options.Heads * options.HeadWidth;
        q_proj = nn.Linear(options.Width, inner, hasBias: false);
        k_proj = nn.Linear(options.Width, inner, hasBias: false);
        v_proj = nn.Linear(options.Width, inner, hasBias: false);
        o_proj = nn.Linear(inner, options.Width, hasBias: false);
        using var scope = NewDisposeScope();
        var frequencies = pow(RotaryBase, arange(0, options.HeadWidth, 2, float32) / -options.HeadWidth);
        var angles = outer(arange(-options.SegmentLength, options.SegmentLength, float32), frequencies);
        (cos, sin) = (cat([angles.cos(), angles.cos()], -1).DetachFromDisposeScope(), cat([angles.sin().neg(), angles.sin()], -1).DetachFromDisposeScope());
    }

    protected DecoderOptions Options { get; }

    /// <summary>Call it after RegisterComponents.</summary>
    protected void InitializeProjections() => InitialProjections.Draw(Options.Layers, named_parameters());

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (x.size(0), x.size(1));
        var segments = tokens / Options.SegmentLength;
        var attended = Attend(Heads(q_proj), Heads(k_proj), Heads(v_proj)); // (B, S, H, N, K)
        return o_proj.call(attended.transpose(2, 3).reshape(batch, tokens, -1)).MoveToOuterDisposeScope();

        Tensor Heads(Linear projection) => projection.call(x).view(batch, segments, Options.SegmentLength, Options.Heads, -1).transpose(2, 3);
    }

    /// <param name="q">(B, S, H, N, K), without position</param>
    /// <param name="k">(B, S, H, N, K), without position</param>
    /// <param name="v">(B, S, H, N, K)</param>
    /// <returns>(B, S, H, N, K)</returns>
    protected abstract Tensor Attend(Tensor q, Tensor k, Tensor v);

    /// <summary>Rotates x (B, S, H, N, K) by positions counted from the segment's first token, or from that of the segment after it.</summary>
    protected Tensor Rotate(Tensor x, bool isOfSegmentBefore = false)
    {
        var (first, n) = (isOfSegmentBefore ? 0 : Options.SegmentLength, Options.SegmentLength);
        return x.mul(cos.narrow(0, first, n)).addcmul(x.roll(Options.HeadWidth / 2, -1), sin.narrow(0, first, n), Numbers.One);
    }

    /// <summary>Scaled dot-product attention of each segment.</summary>
    /// <param name="q">(B, S, H, N, K)</param>
    /// <param name="k">(B, S, H, L, K)</param>
    /// <param name="v">(B, S, H, L, K)</param>
    /// <param name="visible">(S, N, L) bool; null for causal attention.</param>
    protected static Tensor Softmax(Tensor q, Tensor k, Tensor v, Tensor? visible)
    {
        var mask = visible?.unsqueeze(1).unsqueeze(0).expand(q.size(0), q.size(1), 1, visible.size(1), visible.size(2)).flatten(0, 1);
        return nn.functional.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask, 0, visible is null).view_as(q);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Forget();
            cos.Dispose();
            sin.Dispose();
        }

        base.Dispose(disposing);
    }
}
