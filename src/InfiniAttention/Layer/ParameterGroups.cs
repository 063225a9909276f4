using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>The parameters of a model in two groups, because gates need their own learning rate and no weight decay.</content>
public sealed partial class InfiniAttentionModule
{
    /// <summary>The gates of all Infini-attention layers of a model, each once, in the order of its modules.</summary>
    /// <param name="model">Any module that contains Infini-attention layers at any depth, or is one.</param>
    /// <remarks>
    /// <code>
    /// var optimizer = optim.AdamW(
    /// [
    ///     new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(model), lr: 1e-2, weight_decay: 0),
    ///     new AdamW.ParamGroup(InfiniAttentionModule.OtherParameters(model), lr: 1e-4, weight_decay: 0.1),
    /// ]);
    /// </code>
    /// </remarks>
    /// <exception cref="ArgumentException">The model holds no Infini-attention layer that is registered.</exception>
    public static IReadOnlyList<Parameter> GateParameters(nn.Module model) =>
        [.. ModelLayers.Of(model).Select(entry => entry.Layer.Gate).DistinctBy(gate => gate.Handle)];

    /// <summary>The parameters of a model that are not gates, each once; together with <see cref="GateParameters"/> they are all parameters.</summary>
    /// <param name="model">Any module that holds Infini-attention layers.</param>
    /// <exception cref="ArgumentException">The model holds no Infini-attention layer that is registered.</exception>
    public static IReadOnlyList<Parameter> OtherParameters(nn.Module model)
    {
        var gates = GateParameters(model).Select(gate => gate.Handle).ToHashSet();
        return [.. model.parameters().DistinctBy(parameter => parameter.Handle).Where(parameter => !gates.Contains(parameter.Handle))];
    }
}
