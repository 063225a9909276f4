using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>Causal attention inside each segment, without any memory of earlier segments.</summary>
public sealed class LocalContext : ProjectedAttention
{
    public LocalContext(DecoderOptions options) : base(nameof(LocalContext), options)
    {
        RegisterComponents();
        InitializeProjections();
    }

    public override long NumbersHeld(long tokens) => 0;

    protected override Tensor Attend(Tensor q, Tensor k, Tensor v) => Softmax(Rotate(q), Rotate(k), v, null);
}
