using InfiniAttention;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>x + attention(norm(x)), then x + MLP(norm(x)).</summary>
public sealed class DecoderLayer : nn.Module<Tensor, Tensor>
{
    private readonly DecoderNorm input_layernorm, post_attention_layernorm;
    private nn.Module<Tensor, Tensor> self_attn;
    private readonly DecoderMlp mlp;

    public DecoderLayer(DecoderConfig config, nn.Module<Tensor, Tensor> attention, ScalarType type, Device? device) : base(nameof(DecoderLayer))
    {
        (input_layernorm, post_attention_layernorm) = (new(config, type, device), new(config, type, device));
        self_attn = attention;
        mlp = new(config, type, device);
        RegisterComponents();
    }

    public nn.Module<Tensor, Tensor> Attention => self_attn;

    /// <summary>The attention of a model that has Infini-attention.</summary>
    public InfiniAttentionModule Infini => (InfiniAttentionModule)self_attn;

    public DecoderNorm AttentionNorm => input_layernorm;

    public DecoderNorm MlpNorm => post_attention_layernorm;

    public DecoderMlp Mlp => mlp;

    /// <summary>Whether an entry of the attention's <c>state_dict</c> is of the memory: the checkpoints that people have do not have it.</summary>
    public static bool IsOfMemory(string name) => name == "gate" || name.StartsWith("memory_", StringComparison.Ordinal);

    /// <summary>Gives the layer another attention and disposes of the one that it had.</summary>
    public void Replace(nn.Module<Tensor, Tensor> attention)
    {
        register_module(nameof(self_attn), null!); // TorchSharp's way to take a module out
        self_attn.Dispose();
        self_attn = attention;
        register_module(nameof(self_attn), attention);
        attention.train(training);
    }

    /// <summary>Freezes all but what is of the memory, and gives each projection of the attention an adapter.</summary>
    public void AddAdapters(LoraSettings settings)
    {
        var before = self_attn.state_dict();
        var adapted = new InfiniAttentionModule(Infini.Options, Adapted("q_proj"), Adapted("k_proj"), Adapted("v_proj"), Adapted("o_proj"), before["gate"].device, before["gate"].dtype);
        using (no_grad())
        {
            foreach (var (name, tensor) in adapted.state_dict().Where(entry => before.ContainsKey(entry.Key)))
            {
                tensor.copy_(before[name]);
            }
        }

        Replace(adapted);
        foreach (var parameter in parameters())
        {
            parameter.requires_grad_(false);
        }

        foreach (var (_, parameter) in adapted.named_parameters().Where(entry => IsOfMemory(entry.name) || LoraLinear.IsOfAdapter(entry.name)))
        {
            parameter.requires_grad_(true);
        }

        LoraLinear Adapted(string name) => new(before[$"{name}.weight"], before.GetValueOrDefault($"{name}.bias"), settings);
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = x.add(self_attn.call(input_layernorm.call(x)), Numbers.One);
        return x.add(mlp.call(post_attention_layernorm.call(x)), Numbers.One).MoveToOuterDisposeScope();
    }
}

/// <summary>down(activation(gate(x)) * up(x)), or without the gate down(activation(up(x))).</summary>
public sealed class DecoderMlp : nn.Module<Tensor, Tensor>
{
    private static readonly Scalar Half = 0.5, Cubic = 0.044715, Slope = Math.Sqrt(2 / Math.PI);

    private readonly Linear? gate_proj;
    private readonly Linear up_proj, down_proj;
    private readonly Activation activation;

    public DecoderMlp(DecoderConfig config, ScalarType type, Device? device) : base(nameof(DecoderMlp))
    {
        activation = config.Activation;
        gate_proj = config.IsMlpGated ? nn.Linear(config.Width, config.MlpWidth, config.MlpBias, device, type) : null;
        up_proj = nn.Linear(config.Width, config.MlpWidth, config.MlpBias, device, type);
        down_proj = nn.Linear(config.MlpWidth, config.Width, config.MlpBias, device, type);
        RegisterComponents();
    }

    public Linear? Gate => gate_proj;

    public Linear Up => up_proj;

    public Linear Down => down_proj;

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var inner = gate_proj is null ? Activated(up_proj.call(x)) : Activated(gate_proj.call(x)).mul(up_proj.call(x));
        return down_proj.call(inner).MoveToOuterDisposeScope();
    }

    private Tensor Activated(Tensor x) => activation switch
    {
        Activation.Silu => nn.functional.silu(x),
        Activation.Gelu => nn.functional.gelu(x),
        _ => x.mul(Half).mul(x.mul(x).mul(x).mul(Cubic).add(x, Numbers.One).mul(Slope).tanh().add(Numbers.One, Numbers.One)),
    };
}

/// <summary>w x / rms(x), or LayerNorm, w (x - mean) / deviation + b; computed in float32 for half types.</summary>
public sealed class DecoderNorm : nn.Module<Tensor, Tensor>
{
    private static readonly Scalar MinusOne = -1;

    private readonly Parameter weight;
    private readonly Parameter? bias;
    private readonly Scalar epsilon;

    public DecoderNorm(DecoderConfig config, ScalarType type, Device? device) : base(nameof(DecoderNorm))
    {
        weight = new Parameter(ones([config.Width], type, device));
        bias = config.IsLayerNorm ? new Parameter(zeros([config.Width], type, device)) : null;
        epsilon = config.NormEpsilon;
        RegisterComponents();
    }

    public Parameter Weight => weight;

    public Parameter? Bias => bias;

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var exact = x.dtype == ScalarType.Float64 ? x : x.to(float32);
        exact = bias is null ? exact : exact.add(exact.mean([-1], keepdim: true), MinusOne);
        var normal = exact.mul(exact.mul(exact).mean([-1], keepdim: true).add(epsilon, Numbers.One).rsqrt()).to(x.dtype).mul(weight);
        return (bias is null ? normal : normal.add(bias, Numbers.One)).MoveToOuterDisposeScope();
    }
}
