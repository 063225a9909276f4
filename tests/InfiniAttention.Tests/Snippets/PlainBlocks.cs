using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

#region what the blocks share
/// <summary>A causal attention block as a model has it: x (B, T, D) and padding (B, T), true to ignore, to (B, T, D).</summary>
internal abstract class PlainBlock(string name) : nn.Module<Tensor, Tensor?, Tensor>(name)
{
    /// <summary>0 up to the diagonal, minus infinity above it: (T, T).</summary>
    public static Tensor CausalMask(long tokens, ScalarType type) => full([tokens, tokens], double.NegativeInfinity, type).triu(1);

    /// <summary>softmax(q k^T / sqrt(K) + mask) v with heads first, (B, H, T, K), to (B, T, H*K).</summary>
    public static Tensor Attend(Tensor q, Tensor k, Tensor v, Tensor? padding)
    {
        var tokens = q.shape[2];
        var mask = CausalMask(tokens, q.dtype).view(1, 1, tokens, tokens);
        mask = padding is null ? mask : mask.masked_fill(padding.view(-1, 1, 1, tokens), double.NegativeInfinity);
        var weights = ((q.matmul(k.transpose(2, 3)) / Math.Sqrt(q.shape[^1])) + mask).softmax(-1);
        return weights.matmul(v).transpose(1, 2).reshape(q.shape[0], tokens, -1);
    }

    /// <summary>(B, T, heads*K) to (B, heads, T, K).</summary>
    public static Tensor Heads(Tensor x, long heads) => x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2);

    /// <summary>x cos + rotate_half(x) sin, heads first: (B, H, T, K). The first token is at position first.</summary>
    public static Tensor RotateHalves(Tensor x, double theta, long first = 0)
    {
        var (tokens, width) = (x.shape[2], x.shape[3]);
        var frequencies = 1 / pow(tensor(theta, x.dtype), arange(0, width, 2, x.dtype) / width);
        var angles = outer(arange(first, first + tokens, 1, x.dtype), frequencies);
        var embedding = cat([angles, angles], -1);
        var rotated = cat([-x.narrow(-1, width / 2, width / 2), x.narrow(-1, 0, width / 2)], -1);
        return (x * embedding.cos()) + (rotated * embedding.sin());
    }
}
#endregion

#region nn.MultiheadAttention before
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
        var sequence = x.transpose(0, 1);                                   // (T, B, D)
        var mask = CausalMask(x.shape[1], x.dtype);
        return self_attn.call(sequence, sequence, sequence, padding, false, mask).Item1.transpose(0, 1);
    }
}
#endregion

#region LLaMA and Mistral before
internal sealed class LlamaBlock : PlainBlock
{
    private readonly long heads, keyHeads;
    private readonly double theta;
    private readonly Linear q_proj, k_proj, v_proj, o_proj;

    public LlamaBlock(long width, long heads, long keyHeads, long headWidth, double theta, bool bias = false) : base(nameof(LlamaBlock))
    {
        (this.heads, this.keyHeads, this.theta) = (heads, keyHeads, theta);
        q_proj = nn.Linear(width, heads * headWidth, bias);
        k_proj = nn.Linear(width, keyHeads * headWidth, bias);
        v_proj = nn.Linear(width, keyHeads * headWidth, bias);
        o_proj = nn.Linear(heads * headWidth, width, bias);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var q = RotateHalves(Heads(q_proj.call(x), heads), theta);
        var k = RotateHalves(Heads(k_proj.call(x), keyHeads), theta);
        var v = Heads(v_proj.call(x), keyHeads);
        return o_proj.call(Attend(q, RepeatKv(k), RepeatKv(v), padding));
    }

    private Tensor RepeatKv(Tensor x) =>
        x.unsqueeze(2).expand(x.shape[0], keyHeads, heads / keyHeads, x.shape[2], x.shape[3]).reshape(x.shape[0], heads, x.shape[2], x.shape[3]);
}
#endregion

#region Qwen before
internal sealed class QwenBlock : PlainBlock
{
    private readonly long heads, keyHeads;
    private readonly Linear q_proj, k_proj, v_proj, o_proj;
    private readonly RmsNorm? q_norm, k_norm;

    public QwenBlock(long width, long heads, long keyHeads, long headWidth, bool hasBias, bool hasNorm) : base(nameof(QwenBlock))
    {
        (this.heads, this.keyHeads) = (heads, keyHeads);
        q_proj = nn.Linear(width, heads * headWidth, hasBias);
        k_proj = nn.Linear(width, keyHeads * headWidth, hasBias);
        v_proj = nn.Linear(width, keyHeads * headWidth, hasBias);
        o_proj = nn.Linear(heads * headWidth, width, hasBias: false);
        (q_norm, k_norm) = hasNorm ? (new RmsNorm(headWidth), new RmsNorm(headWidth)) : (null, null);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var (q, k, v) = (Heads(q_proj.call(x), heads), Heads(k_proj.call(x), keyHeads), Heads(v_proj.call(x), keyHeads));
        (q, k) = (RotateHalves(q_norm?.call(q) ?? q, 1000000), RotateHalves(k_norm?.call(k) ?? k, 1000000));
        return o_proj.call(Attend(q, k.repeat_interleave(heads / keyHeads, 1), v.repeat_interleave(heads / keyHeads, 1), padding));
    }
}

/// <summary>x w / sqrt(mean(x^2) + 1e-6) over the last dimension.</summary>
internal sealed class RmsNorm : nn.Module<Tensor, Tensor>
{
    private readonly Parameter weight;

    public RmsNorm(long width) : base(nameof(RmsNorm))
    {
        weight = nn.Parameter(ones(width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => weight * x * rsqrt(x.square().mean([-1], keepdim: true) + 1e-6);
}
#endregion

#region Meta's LLaMA before
internal sealed class MetaLlamaBlock : PlainBlock
{
    private readonly long heads, keyHeads;
    private readonly double theta;
    private readonly Linear wq, wk, wv, wo;

    public MetaLlamaBlock(long width, long heads, long keyHeads, double theta) : base(nameof(MetaLlamaBlock))
    {
        (this.heads, this.keyHeads, this.theta) = (heads, keyHeads, theta);
        wq = nn.Linear(width, width, hasBias: false);
        wk = nn.Linear(width, keyHeads * width / heads, hasBias: false);
        wv = nn.Linear(width, keyHeads * width / heads, hasBias: false);
        wo = nn.Linear(width, width, hasBias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var q = RotatePairs(Heads(wq.call(x), heads));
        var k = RotatePairs(Heads(wk.call(x), keyHeads)).repeat_interleave(heads / keyHeads, 1);
        var v = Heads(wv.call(x), keyHeads).repeat_interleave(heads / keyHeads, 1);
        return wo.call(Attend(q, k, v, padding));
    }

    /// <summary>Neighbouring elements as complex numbers, times e^(i position frequency).</summary>
    private Tensor RotatePairs(Tensor x)
    {
        var (tokens, width) = (x.shape[2], x.shape[3]);
        var frequencies = 1 / pow(tensor(theta, x.dtype), arange(0, width, 2, x.dtype) / width);
        var angles = outer(arange(0, tokens, 1, x.dtype), frequencies);
        var pairs = x.reshape(x.shape[0], x.shape[1], tokens, width / 2, 2);
        var (real, imaginary) = (pairs.select(-1, 0), pairs.select(-1, 1));
        var turned = new[] { (real * angles.cos()) - (imaginary * angles.sin()), (real * angles.sin()) + (imaginary * angles.cos()) };
        return stack(turned, -1).view(x.shape);
    }
}
#endregion

#region Phi-3 before
internal sealed class Phi3Block : PlainBlock
{
    private readonly long heads, keyHeads, headWidth;
    private readonly Linear qkv_proj, o_proj;

    public Phi3Block(long width, long heads, long keyHeads) : base(nameof(Phi3Block))
    {
        (this.heads, this.keyHeads, headWidth) = (heads, keyHeads, width / heads);
        qkv_proj = nn.Linear(width, (heads + (2 * keyHeads)) * headWidth, hasBias: false);
        o_proj = nn.Linear(width, width, hasBias: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var (queryRows, keyRows) = (heads * headWidth, keyHeads * headWidth);
        var qkv = qkv_proj.call(x);
        var q = RotateHalves(Heads(qkv.narrow(-1, 0, queryRows), heads), 10000);
        var k = RotateHalves(Heads(qkv.narrow(-1, queryRows, keyRows), keyHeads), 10000);
        var v = Heads(qkv.narrow(-1, queryRows + keyRows, keyRows), keyHeads);
        return o_proj.call(Attend(q, k.repeat_interleave(heads / keyHeads, 1), v.repeat_interleave(heads / keyHeads, 1), padding));
    }
}
#endregion

#region Phi-2 before
internal sealed class Phi2Block : PlainBlock
{
    private readonly long heads, turned;
    private readonly Linear q_proj, k_proj, v_proj, dense;

    public Phi2Block(long width, long heads, long turned) : base(nameof(Phi2Block))
    {
        (this.heads, this.turned) = (heads, turned);
        q_proj = nn.Linear(width, width);
        k_proj = nn.Linear(width, width);
        v_proj = nn.Linear(width, width);
        dense = nn.Linear(width, width);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding) =>
        dense.call(Attend(RotatePart(Heads(q_proj.call(x), heads)), RotatePart(Heads(k_proj.call(x), heads)), Heads(v_proj.call(x), heads), padding));

    private Tensor RotatePart(Tensor x) =>
        cat([RotateHalves(x.narrow(-1, 0, turned), 10000), x.narrow(-1, turned, x.shape[^1] - turned)], -1);
}
#endregion

#region GPT-2 before
internal sealed class Gpt2Block : PlainBlock
{
    private readonly long heads;
    private readonly Gpt2Attention attn;

    public Gpt2Block(long width, long heads) : base(nameof(Gpt2Block))
    {
        (this.heads, attn) = (heads, new(width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x, Tensor? padding)
    {
        var qkv = attn.c_attn.call(x).chunk(3, -1);
        return attn.c_proj.call(Attend(Heads(qkv[0], heads), Heads(qkv[1], heads), Heads(qkv[2], heads), padding));
    }
}

/// <summary>As Hugging Face keeps it: both projections are transposed.</summary>
internal sealed class Gpt2Attention : nn.Module
{
    public readonly Conv1D c_attn, c_proj;

    public Gpt2Attention(long width) : base(nameof(Gpt2Attention))
    {
        (c_attn, c_proj) = (new(width, 3 * width), new(width, width));
        RegisterComponents();
    }
}

internal sealed class Conv1D : nn.Module<Tensor, Tensor>
{
    private readonly Parameter weight, bias; // (inputs, outputs), (outputs)

    public Conv1D(long inputs, long outputs) : base(nameof(Conv1D))
    {
        (weight, bias) = (nn.Parameter(0.02 * randn(inputs, outputs)), nn.Parameter(zeros(outputs)));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => x.matmul(weight) + bias;
}
#endregion
