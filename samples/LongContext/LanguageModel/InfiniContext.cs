using InfiniAttention;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>Infini-attention with any options.</summary>
public sealed class InfiniContext : ContextAttention
{
    internal readonly InfiniAttentionModule layer;
    private MemoryState? state;

    /// <param name="options">Sizes.</param>
    /// <param name="change">What differs from the paper's options.</param>
    public InfiniContext(DecoderOptions options, Func<InfiniAttentionOptions, InfiniAttentionOptions>? change = null) : base(nameof(InfiniContext))
    {
        var paper = new InfiniAttentionOptions
        {
            EmbedDim = options.Width,
            NumHeads = options.Heads,
            HeadDim = options.HeadWidth,
            SegmentLength = options.SegmentLength,
            Rotary = new(),
        };
        layer = new InfiniAttentionModule(change?.Invoke(paper) ?? paper);
        RegisterComponents();
        InitialWeights.Draw(options.Layers, layer.named_parameters());
    }

    public override Tensor Gate => layer.Gate;

    public override long NumbersHeld(long tokens)
    {
        var o = layer.Options;
        var (heads, width) = (o.NumHeads, o.HeadDim!.Value);
        return (width * (width + 1) * heads) + (o.LocalSegments > 1 ? 2 * heads * width * o.SegmentLength : 0);
    }

    public override Tensor forward(Tensor x)
    {
        if (SegmentStreamer.Current is not null)
        {
            return layer.call(x); // which continues the streamer's state
        }

        var (output, after) = layer.ForwardFrom(state, x);
        Replace(after);
        return output;
    }

    public override void Forget() => Replace(null);

    public override void Detach() => Replace(state?.Detach());

    private void Replace(MemoryState? next)
    {
        state?.Dispose();
        state = next;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            Forget();
        }

        base.Dispose(disposing);
    }
}
