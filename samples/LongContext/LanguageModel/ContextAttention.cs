using LongContext.Models;
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

    /// <summary>beta of each head: its sigmoid is the memory's share. Null if there is no gate.</summary>
    public virtual Tensor? Gate => null;

    /// <summary>How many numbers of the past are kept for one document of that many tokens, enough to fill every cache.</summary>
    public abstract long NumbersHeld(long tokens);
}

/// <summary>An attention with its own projections q, k, v and o, and rotary positions.</summary>
public abstract class ProjectedAttention : ContextAttention
{
    private readonly Linear q_proj, k_proj, v_proj, o_proj;
    private readonly RotaryTable positions;

    /// <param name="name">The module's name.</param>
    /// <param name="options">Sizes.</param>
    /// <param name="added">How many tokens of its own a system puts before and behind each segment.</param>
    protected ProjectedAttention(string name, DecoderOptions options, long added = 0) : base(name)
    {
        Options = options;
        PieceLength = options.SegmentLength + (2 * added);
        var inner = options.Heads * options.HeadWidth;
        q_proj = nn.Linear(options.Width, inner, hasBias: false);
        k_proj = nn.Linear(options.Width, inner, hasBias: false);
        v_proj = nn.Linear(options.Width, inner, hasBias: false);
        o_proj = nn.Linear(inner, options.Width, hasBias: false);
        positions = new RotaryTable(-PieceLength, 2 * PieceLength, options.HeadWidth);
    }

    protected DecoderOptions Options { get; }

    /// <summary>How many tokens stand together: a segment, and what is added to it.</summary>
    protected long PieceLength { get; }

    /// <summary>Call it after RegisterComponents.</summary>
    protected void InitializeProjections() => InitialWeights.Draw(Options.Layers, named_parameters());

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var (batch, tokens) = (x.size(0), x.size(1));
        var attended = Attend(Heads(q_proj), Heads(k_proj), Heads(v_proj)); // (B, S, H, N, K)
        return o_proj.call(attended.transpose(2, 3).reshape(batch, tokens, -1)).MoveToOuterDisposeScope();

        Tensor Heads(Linear projection) => projection.call(x).view(batch, -1, PieceLength, Options.Heads, Options.HeadWidth).transpose(2, 3);
    }

    /// <param name="q">(B, S, H, N, K), without position</param>
    /// <param name="k">(B, S, H, N, K), without position</param>
    /// <param name="v">(B, S, H, N, K)</param>
    /// <returns>(B, S, H, N, K)</returns>
    protected abstract Tensor Attend(Tensor q, Tensor k, Tensor v);

    /// <summary>Rotates x (B, S, H, N, K) by the positions from <paramref name="first"/> on; the segment's first token has position 0.</summary>
    protected Tensor Rotate(Tensor x, long first = 0) => positions.Rotate(x, first);

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
            positions.Dispose();
        }

        base.Dispose(disposing);
    }
}
