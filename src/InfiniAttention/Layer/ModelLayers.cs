using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The Infini-attention layers of a model.</summary>
internal static class ModelLayers
{
    /// <summary>Each layer once, with its name in the model (empty for a model that is the layer), in the order of the modules.</summary>
    /// <exception cref="ArgumentException">The model has none.</exception>
    public static (string Name, InfiniAttentionModule Layer)[] Of(nn.Module model)
    {
        ArgumentNullException.ThrowIfNull(model);
        var layers = model.named_modules().Prepend((name: "", module: model))
            .Where(entry => entry.module is InfiniAttentionModule)
            .Select(entry => (entry.name, (InfiniAttentionModule)entry.module))
            .DistinctBy(entry => entry.Item2).ToArray();
        return layers.Length > 0 ? layers : throw new ArgumentException(
            $"The model, a {model.GetType().Name}, holds no InfiniAttentionModule. Layers are found if they are registered: "
                + "call RegisterComponents() in the constructor, and keep lists of layers in a ModuleList.",
            nameof(model));
    }
}
