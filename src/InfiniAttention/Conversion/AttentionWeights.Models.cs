using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>The weights of a whole model whose blocks were replaced.</content>
public static partial class AttentionWeights
{
    /// <summary>
    /// Loads the weights of a model from before its attention was replaced, which have no gates: every gate that is not among them keeps its
    /// initial value. Everything else must be there, and nothing may be left over, as in a strict <c>load_state_dict</c>; a gate that is there is loaded.
    /// </summary>
    /// <param name="model">A model with <see cref="InfiniMultiheadAttention"/>s or <see cref="InfiniAttentionModule"/>s, however deep.</param>
    /// <param name="stateDict">The weights of the model before.</param>
    /// <exception cref="ArgumentException">The model holds no Infini-attention layer; or tensors are missing, left over or misshapen: all of them are named. Nothing was loaded.</exception>
    public static void LoadWithoutGates(nn.Module model, IReadOnlyDictionary<string, Tensor> stateDict)
    {
        ArgumentNullException.ThrowIfNull(stateDict);
        var own = model.state_dict();
        CheckNames(model, own, stateDict.Keys.ToHashSet(), nameof(stateDict));
        var misshapen = stateDict.Where(entry => !Describe.HasShape(entry.Value, Describe.Sizes(own[entry.Key])))
            .Select(entry => $"'{entry.Key}' has shape {Describe.Shape(entry.Value)}; the model's is {Describe.Shape(own[entry.Key])}").ToArray();
        Refuse(misshapen, nameof(stateDict));
        using var noGrad = no_grad();
        foreach (var (name, tensor) in stateDict)
        {
            own[name].copy_(tensor);
        }
    }

    /// <summary>The same from a file that <c>Module.save</c> wrote.</summary>
    /// <param name="model">A model with <see cref="InfiniMultiheadAttention"/>s or <see cref="InfiniAttentionModule"/>s, however deep.</param>
    /// <param name="path">The file of the model before.</param>
    /// <exception cref="ArgumentException">The model holds no Infini-attention layer; or tensors are missing or left over: all of them are named. Nothing was loaded.</exception>
    public static void LoadWithoutGates(nn.Module model, string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(model);
        var own = model.state_dict();
        var found = new Dictionary<string, bool>();
        model.load(path, strict: false, skip: [.. own.Keys], loadedParameters: found); // reads the names alone
        CheckNames(model, own, [.. found.Keys], nameof(path));
        model.load(path, strict: false);
    }

    private static void CheckNames(nn.Module model, Dictionary<string, Tensor> own, HashSet<string> given, string parameter)
    {
        var gates = ModelLayers.Of(model).Select(entry => entry.Name.Length == 0 ? Gate : $"{entry.Name}.{Gate}").ToHashSet();
        Refuse(
            [
                .. own.Keys.Where(name => !given.Contains(name) && !gates.Contains(name)).Select(name => $"'{name}' {Describe.Shape(own[name])} is missing"),
                .. given.Where(name => !own.ContainsKey(name)).Select(name => $"'{name}' is left over"),
            ],
            parameter);
    }

    private static void Refuse(string[] problems, string parameter)
    {
        if (problems.Length > 0)
        {
            throw new ArgumentException($"The weights do not fit the model, and nothing was loaded:\n  {string.Join("\n  ", problems)}", parameter);
        }
    }
}
