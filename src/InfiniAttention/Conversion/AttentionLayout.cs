namespace InfiniAttention;

/// <summary>How an attention block stores its weights: the names and shapes of its tensors, each with or without biases.</summary>
public enum AttentionLayout
{
    /// <summary><c>in_proj_weight</c> (queries, keys and values, one below the other), <c>out_proj</c>: <c>nn.MultiheadAttention</c>.</summary>
    TorchMultihead,

    /// <summary><c>q_proj k_proj v_proj o_proj</c>: LLaMA and Mistral in Hugging Face and TorchSharp's GenAI, and this library.</summary>
    HuggingFaceLlama,

    /// <summary><c>wq wk wv wo</c>: LLaMA in Meta's code.</summary>
    MetaLlama,

    /// <summary><c>qkv_proj</c> (queries, keys and values, one below the other), <c>o_proj</c>: Phi-3.</summary>
    Phi3,

    /// <summary><c>q_proj k_proj v_proj dense</c>: Phi-2.</summary>
    Phi2,

    /// <summary><c>c_attn</c> (queries, keys and values side by side, (D, 3D)), <c>c_proj</c>, both transposed: GPT-2 in Hugging Face.</summary>
    Gpt2,
}

/// <summary>The tensor names of a layout: of queries, keys and values (one name if they are fused), and of the output.</summary>
/// <param name="Layout">Which layout.</param>
/// <param name="Inputs">The tensors that give q, k and v, without the suffixes for weight and bias.</param>
/// <param name="Output">The tensor that gives the output.</param>
/// <param name="InputSuffix">Between an input's name and <c>weight</c> or <c>bias</c>.</param>
/// <param name="IsTransposed">Whether weights are (inputs, outputs).</param>
internal sealed record LayoutNames(AttentionLayout Layout, string[] Inputs, string Output, char InputSuffix = '.', bool IsTransposed = false)
{
    public static readonly LayoutNames[] All =
    [
        new(AttentionLayout.TorchMultihead, ["in_proj"], "out_proj", '_'),
        new(AttentionLayout.HuggingFaceLlama, ["q_proj", "k_proj", "v_proj"], "o_proj"),
        new(AttentionLayout.MetaLlama, ["wq", "wk", "wv"], "wo"),
        new(AttentionLayout.Phi3, ["qkv_proj"], "o_proj"),
        new(AttentionLayout.Phi2, ["q_proj", "k_proj", "v_proj"], "dense"),
        new(AttentionLayout.Gpt2, ["c_attn"], "c_proj", IsTransposed: true),
    ];

    public bool IsFused => Inputs.Length == 1;

    public string Input(int i, string kind) => Inputs[i] + InputSuffix + kind;

    public string OutputTensor(string kind) => $"{Output}.{kind}";

    /// <summary>The weights that every block of this layout has.</summary>
    public IEnumerable<string> Weights => Inputs.Select((_, i) => Input(i, "weight")).Append(OutputTensor("weight"));
}
