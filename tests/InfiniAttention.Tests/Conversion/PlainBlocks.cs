using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>A causal attention block as a model has it: x (B, T, D) and padding (B, T), true to ignore, to (B, T, D).</summary>
internal abstract class PlainBlock(string name) : nn.Module<Tensor, Tensor?, Tensor>(name)
{
    /// <summary>0 up to the diagonal, minus infinity above it: (T, T).</summary>
    public static Tensor CausalMask(long tokens, ScalarType type) => full([tokens, tokens], double.NegativeInfinity, type).triu(1);

    /// <summary>The same for padding as well: (1 or B, 1, T, T).</summary>
    protected static Tensor AdditiveMask(Tensor x, Tensor? padding)
    {
        var tokens = x.shape[1];
        var mask = CausalMask(tokens, x.dtype).view(1, 1, tokens, tokens);
        return padding is null ? mask : mask.masked_fill(padding.view(padding.shape[0], 1, 1, tokens), double.NegativeInfinity);
    }

    /// <summary>softmax(q k^T / sqrt(K) + mask) v with heads first, (B, H, T, K), to (B, T, H*K).</summary>
    protected static Tensor Attend(Tensor q, Tensor k, Tensor v, Tensor mask)
    {
        var weights = ((q.matmul(k.transpose(2, 3)) / Math.Sqrt(q.shape[^1])) + mask).softmax(-1);
        return weights.matmul(v).transpose(1, 2).reshape(q.shape[0], q.shape[2], -1);
    }
}

/// <summary>A block around nn.MultiheadAttention, which is sequence first.</summary>
internal sealed class MultiheadBlock : PlainBlock
{
    private readonly MultiheadAttention self_attn;

    public MultiheadBlock(long width, long heads) : base(nameof(MultiheadBlock))
    {
        self_attn = nn.MultiheadAttention(width, heads);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var sequence = x.transpose(0, 1);
        return self_attn.call(sequence, sequence, sequence, padding, false, CausalMask(x.shape[1], x.dtype)).Item1.transpose(0, 1);
    }
}

/// <summary>Meta's LLaMA: wq wk wv wo, rotary embedding as a product of complex numbers made of neighbouring elements.</summary>
internal sealed class MetaLlamaBlock : PlainBlock
{
    private readonly long heads, keyHeads, headDim;
    private readonly double theta;
    private readonly Linear wq, wk, wv, wo;

    public MetaLlamaBlock(long width, long heads, long keyHeads, double theta) : base(nameof(MetaLlamaBlock))
    {
        (this.heads, this.keyHeads, headDim, this.theta) = (heads, keyHeads, width / heads, theta);
        wq = nn.Linear(width, heads * headDim, hasBias: false);
        wk = nn.Linear(width, keyHeads * headDim, hasBias: false);
        wv = nn.Linear(width, keyHeads * headDim, hasBias: false);
        wo = nn.Linear(heads * headDim, width, hasBias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var (batch, tokens) = (x.shape[0], x.shape[1]);
        var q = ApplyRotary(wq.call(x).view(batch, tokens, heads, headDim));
        var k = ApplyRotary(wk.call(x).view(batch, tokens, keyHeads, headDim));
        var v = wv.call(x).view(batch, tokens, keyHeads, headDim);
        var repeats = heads / keyHeads;
        k = k.repeat_interleave(repeats, 2);
        v = v.repeat_interleave(repeats, 2);
        return wo.call(Attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), AdditiveMask(x, padding)));
    }

    private Tensor ApplyRotary(Tensor x)
    {
        var frequencies = 1 / pow(tensor(theta, x.dtype), arange(0, headDim, 2, x.dtype) / headDim);
        var angles = outer(arange(0, x.shape[1], 1, x.dtype), frequencies).view(1, x.shape[1], 1, headDim / 2);
        var pairs = x.view(x.shape[0], x.shape[1], x.shape[2], headDim / 2, 2);
        var (real, imaginary) = (pairs.select(-1, 0), pairs.select(-1, 1));
        var turned = new[] { (real * angles.cos()) - (imaginary * angles.sin()), (real * angles.sin()) + (imaginary * angles.cos()) };
        return stack(turned, -1).view(x.shape);
    }
}

/// <summary>LLaMA and Mistral of Hugging Face and GenAI: q_proj k_proj v_proj o_proj, rotary embedding by rotate_half.</summary>
internal sealed class HuggingFaceLlamaBlock : PlainBlock
{
    private readonly long heads, keyHeads, headDim;
    private readonly double theta;
    private readonly Linear q_proj, k_proj, v_proj, o_proj;

    public HuggingFaceLlamaBlock(long width, long heads, long keyHeads, long headDim, double theta, bool bias) : base(nameof(HuggingFaceLlamaBlock))
    {
        (this.heads, this.keyHeads, this.headDim, this.theta) = (heads, keyHeads, headDim, theta);
        q_proj = nn.Linear(width, heads * headDim, bias);
        k_proj = nn.Linear(width, keyHeads * headDim, bias);
        v_proj = nn.Linear(width, keyHeads * headDim, bias);
        o_proj = nn.Linear(heads * headDim, width, bias);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var (batch, tokens) = (x.shape[0], x.shape[1]);
        var q = q_proj.call(x).view(batch, tokens, heads, headDim).transpose(1, 2);
        var k = k_proj.call(x).view(batch, tokens, keyHeads, headDim).transpose(1, 2);
        var v = v_proj.call(x).view(batch, tokens, keyHeads, headDim).transpose(1, 2);
        (q, k) = (HalfRotary.Apply(q, theta), HalfRotary.Apply(k, theta));
        return o_proj.call(Attend(q, RepeatKv(k), RepeatKv(v), AdditiveMask(x, padding)));
    }

    private Tensor RepeatKv(Tensor x) => x.unsqueeze(2).expand(x.shape[0], keyHeads, heads / keyHeads, x.shape[2], headDim).reshape(x.shape[0], heads, x.shape[2], headDim);
}

/// <summary>Phi-3: one qkv_proj, sliced; o_proj.</summary>
internal sealed class Phi3Block : PlainBlock
{
    private readonly long heads, keyHeads, headDim;
    private readonly Linear qkv_proj, o_proj;

    public Phi3Block(long width, long heads, long keyHeads) : base(nameof(Phi3Block))
    {
        (this.heads, this.keyHeads, headDim) = (heads, keyHeads, width / heads);
        qkv_proj = nn.Linear(width, (heads + (2 * keyHeads)) * headDim, hasBias: false);
        o_proj = nn.Linear(width, width, hasBias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var (batch, tokens, queryWidth, keyWidth) = (x.shape[0], x.shape[1], heads * headDim, keyHeads * headDim);
        var qkv = qkv_proj.call(x);
        var q = qkv.narrow(-1, 0, queryWidth).view(batch, tokens, heads, headDim).transpose(1, 2);
        var k = qkv.narrow(-1, queryWidth, keyWidth).view(batch, tokens, keyHeads, headDim).transpose(1, 2);
        var v = qkv.narrow(-1, queryWidth + keyWidth, keyWidth).view(batch, tokens, keyHeads, headDim).transpose(1, 2);
        (q, k) = (HalfRotary.Apply(q, 10000), HalfRotary.Apply(k, 10000));
        var repeats = heads / keyHeads;
        return o_proj.call(Attend(q, k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1), AdditiveMask(x, padding)));
    }
}

/// <summary>Phi-2: q_proj k_proj v_proj dense with biases; only the first elements of a head are turned.</summary>
internal sealed class Phi2Block : PlainBlock
{
    private readonly long heads, headDim, rotaryDim;
    private readonly Linear q_proj, k_proj, v_proj, dense;

    public Phi2Block(long width, long heads, long rotaryDim) : base(nameof(Phi2Block))
    {
        (this.heads, headDim, this.rotaryDim) = (heads, width / heads, rotaryDim);
        q_proj = nn.Linear(width, width);
        k_proj = nn.Linear(width, width);
        v_proj = nn.Linear(width, width);
        dense = nn.Linear(width, width);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var q = PartialRotary(Heads(q_proj.call(x)));
        var k = PartialRotary(Heads(k_proj.call(x)));
        return dense.call(Attend(q, k, Heads(v_proj.call(x)), AdditiveMask(x, padding)));
    }

    private Tensor Heads(Tensor x) => x.view(x.shape[0], x.shape[1], heads, headDim).transpose(1, 2);

    private Tensor PartialRotary(Tensor x) =>
        cat([HalfRotary.Apply(x.narrow(-1, 0, rotaryDim), 10000), x.narrow(-1, rotaryDim, headDim - rotaryDim)], -1);
}

/// <summary>x cos + rotate_half(x) sin, heads first: (B, H, T, W).</summary>
internal static class HalfRotary
{
    public static Tensor Apply(Tensor x, double theta)
    {
        var (tokens, width) = (x.shape[2], x.shape[3]);
        var inverse = 1 / pow(tensor(theta, x.dtype), arange(0, width, 2, x.dtype) / width);
        var angles = outer(arange(0, tokens, 1, x.dtype), inverse);
        var embedding = cat([angles, angles], -1);
        var rotated = cat([-x.narrow(-1, width / 2, width / 2), x.narrow(-1, 0, width / 2)], -1);
        return (x * embedding.cos()) + (rotated * embedding.sin());
    }
}
