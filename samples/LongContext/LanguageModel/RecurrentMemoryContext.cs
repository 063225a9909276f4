using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>
/// The memory of a Recurrent Memory Transformer (Bulatov et al., arXiv 2207.06881): p tokens that stand before and behind each segment, [memory, N tokens, memory].
/// The model's outputs at the places behind the segment are the memory of the next one; gradients flow through it.
/// </summary>
public sealed class RecurrentMemory : nn.Module<Tensor, Func<Tensor, Tensor>, Tensor>
{
    /// <summary>p</summary>
    public const int DefaultTokens = 8;

    private readonly Parameter initial; // (p, D)
    private readonly long segmentLength;
    private Tensor? memory; // (B, p, D); null before a document's first segment

    public RecurrentMemory(DecoderOptions options, int tokens) : base(nameof(RecurrentMemory))
    {
        segmentLength = options.SegmentLength;
        initial = new Parameter(empty(tokens, options.Width));
        nn.init.normal_(initial, 0, 0.5);
        RegisterComponents();
    }

    /// <summary>Reads segments one after another.</summary>
    /// <param name="x">(B, S*N, D)</param>
    /// <param name="body">All layers of the model and its last norm, (B, p + N + p, D) to the same shape.</param>
    public override Tensor forward(Tensor x, Func<Tensor, Tensor> body)
    {
        var tokens = initial.size(0);
        var current = memory ?? initial.unsqueeze(0).expand(x.size(0), -1, -1);
        var outputs = new List<Tensor>();
        for (long start = 0; start < x.size(1); start += segmentLength)
        {
            var y = body(cat([current, x.narrow(1, start, segmentLength), current], 1));
            outputs.Add(y.narrow(1, tokens, segmentLength));
            current = y.narrow(1, tokens + segmentLength, tokens);
        }

        Forget();
        memory = current.clone().DetachFromDisposeScope();
        return cat(outputs, 1);
    }

    public void Forget()
    {
        memory?.Dispose();
        memory = null;
    }

    public void Detach() => memory?.detach_();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Forget();
        }

        base.Dispose(disposing);
    }
}

/// <summary>
/// Attention over [memory, N tokens, memory]: causal for the tokens, which see the memory before them; the tokens of a memory also see one another.
/// A document's first segment has no memory to read.
/// </summary>
public sealed class RecurrentMemoryContext : ProjectedAttention
{
    private readonly long memoryTokens; // p
    private bool isFirst = true;

    public RecurrentMemoryContext(DecoderOptions options, int memoryTokens) : base(nameof(RecurrentMemoryContext), options, memoryTokens)
    {
        this.memoryTokens = memoryTokens;
        RegisterComponents();
        InitializeProjections();
    }

    /// <summary>As the paper counts it; carried from segment to segment are p vectors of the model's width.</summary>
    public override long NumbersHeld(long tokens) => 2 * Options.Width * memoryTokens;

    protected override Tensor Attend(Tensor q, Tensor k, Tensor v)
    {
        var (p, all) = (memoryTokens, PieceLength);
        var visible = ones(all, all, @bool).tril();
        visible.narrow(0, 0, p).narrow(1, 0, p).fill_(true);
        visible.narrow(0, all - p, p).narrow(1, all - p, p).fill_(true);
        if (isFirst)
        {
            visible.narrow(0, p, all - p).narrow(1, 0, p).fill_(false);
        }

        isFirst = false;
        return Softmax(Rotate(q, -p), Rotate(k, -p), v, visible.unsqueeze(0));
    }

    public override void Forget() => isFirst = true;
}
