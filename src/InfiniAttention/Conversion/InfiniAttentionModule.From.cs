using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>Creates the layer from an existing block.</content>
public sealed partial class InfiniAttentionModule
{
    /// <summary>
    /// A layer with the weights of an <c>nn.MultiheadAttention</c>, on its device and of its type, frozen if they are. With
    /// <see cref="EmptyMemory.LocalOnly"/>, and batch-first input, it computes what that module computes under a causal mask,
    /// up to the first segment boundary.
    /// </summary>
    /// <remarks>A module made with <c>add_zero_attn</c> computes something else, and nothing in its weights shows it: do not convert such a module.</remarks>
    /// <param name="attention">The module, for self-attention; it is not changed.</param>
    /// <param name="options">Shape and rules. <c>Bias</c> is taken from the module; its number of heads and its dropout cannot be read from it and must be given.</param>
    /// <exception cref="ArgumentException">
    /// The module's width is not that of the options, or it is for cross-attention (<c>kdim</c>, <c>vdim</c>) or has <c>add_bias_kv</c>;
    /// the message says what was found.
    /// </exception>
    public static InfiniAttentionModule From(MultiheadAttention attention, InfiniAttentionOptions options)
    {
        ArgumentNullException.ThrowIfNull(attention);
        ArgumentNullException.ThrowIfNull(options);
        using var scope = NewDisposeScope();
        var weights = attention.state_dict();
        var weight = weights["out_proj.weight"];
        options = options with { Bias = weights.ContainsKey("out_proj.bias"), QueryBias = null, KeyBias = null, ValueBias = null, OutputBias = null };
        var layer = new InfiniAttentionModule(options, weight.device, weight.dtype);
        try
        {
            AttentionWeights.Load(layer, weights);
            KeepFrozen(attention, layer);
        }
        catch
        {
            layer.Dispose();
            throw;
        }

        layer.train(attention.training);
        return layer;
    }

    /// <summary>Freezes the layer's weights that are frozen in the module.</summary>
    private static void KeepFrozen(MultiheadAttention attention, InfiniAttentionModule layer)
    {
        var trained = attention.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.requires_grad);
        foreach (var (name, parameter) in layer.named_parameters().Where(entry => !MemoryParameters.Contains(entry.name)))
        {
            var kind = name[(name.IndexOf('.', StringComparison.Ordinal) + 1)..];
            parameter.requires_grad_(trained[name.StartsWith("o_proj", StringComparison.Ordinal) ? $"out_proj.{kind}" : $"in_proj_{kind}"]);
        }
    }
}
