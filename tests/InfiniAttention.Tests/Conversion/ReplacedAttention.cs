using InfiniAttention.Tests.Snippets;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>A model with nn.MultiheadAttention, and with the module that replaces it.</summary>
internal static class ReplacedAttention
{
    public const long Width = 24, Heads = 3, Segment = 8, Batch = 2;

    public static Model<MultiheadAttention> Before() => new Model<MultiheadAttention>(nn.MultiheadAttention(Width, Heads)).Registered();

    public static Model<InfiniMultiheadAttention> After(double gateInit = 0) =>
        new Model<InfiniMultiheadAttention>(new(Width, Heads, Segment, gateInit: gateInit)).Registered();

    /// <summary>A model before and after one declaration is changed.</summary>
    public sealed class Model<TAttention>(TAttention attention) : nn.Module<Tensor, Tensor>("model")
        where TAttention : nn.Module<Tensor, Tensor, Tensor, Tensor?, bool, Tensor?, Tuple<Tensor, Tensor>>
    {
        private readonly LayerNorm norm = nn.LayerNorm(Width);
        private readonly TAttention self_attn = attention;
        private readonly Linear head = nn.Linear(Width, 5);

        public Model<TAttention> Registered()
        {
            RegisterComponents();
            return this;
        }

        public override Tensor forward(Tensor x)
        {
            var sequence = norm.call(x).transpose(0, 1);
            var mask = PlainBlock.CausalMask(x.shape[1], x.dtype);
            return head.call(self_attn.call(sequence, sequence, sequence, null, false, mask).Item1.transpose(0, 1));
        }
    }
}
