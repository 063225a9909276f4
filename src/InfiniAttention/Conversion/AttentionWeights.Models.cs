using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>How the weights given to <see cref="AttentionWeights.LoadModel(nn.Module, IReadOnlyDictionary{string, Tensor})"/> differ from those of the model.</summary>
/// <param name="Missing">Parameters of memories that were not given: they keep their values.</param>
/// <param name="LeftOver">Parameters of memories that were given and that the model does not have: they were not loaded.</param>
public sealed record LoadedWeights(IReadOnlyList<string> Missing, IReadOnlyList<string> LeftOver);

/// <content>Loads the weights of a whole model whose blocks were replaced, or whose layers had other options.</content>
public static partial class AttentionWeights
{
    /// <summary>
    /// Loads the weights of a model saved before its attention was replaced, or with other options of the memory. The parameters of the memory
    /// (<c>gate</c>, <c>memory_norm.…</c>, <c>memory_q_proj.weight</c>, <c>memory_k_proj.weight</c>) may be missing, and then keep their initial values, or be
    /// left over; everything else must be present and nothing else may be left over, as in a strict <c>load_state_dict</c>.
    /// </summary>
    /// <param name="model">A model with <see cref="InfiniMultiheadAttention"/>s or <see cref="InfiniAttentionModule"/>s, at any depth.</param>
    /// <param name="stateDict">The weights of the earlier model.</param>
    /// <returns>The names of the missing and of the left over parameters.</returns>
    /// <exception cref="ArgumentException">
    /// The model holds no Infini-attention layer; or tensors are missing, left over, null, or of a wrong shape or type: all are named. Nothing was loaded.
    /// </exception>
    public static LoadedWeights LoadModel(nn.Module model, IReadOnlyDictionary<string, Tensor> stateDict)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(stateDict);
        return LoadModel(model, stateDict, nameof(stateDict));
    }

    /// <summary>The same from a file that <c>Module.save</c> wrote; numbers of another floating point type than the model's are converted.</summary>
    /// <param name="model">A model with <see cref="InfiniMultiheadAttention"/>s or <see cref="InfiniAttentionModule"/>s, at any depth.</param>
    /// <param name="path">The file of the earlier model.</param>
    /// <returns>The names of the missing and of the left over parameters.</returns>
    /// <exception cref="ArgumentException">
    /// The model holds no Infini-attention layer; or tensors are missing, left over, null, or of a wrong shape or type: all are named. Nothing was loaded.
    /// </exception>
    /// <exception cref="InvalidDataException">The file is damaged or was not written by <c>Module.save</c>. Nothing was loaded.</exception>
    public static LoadedWeights LoadModel(nn.Module model, string path)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentException.ThrowIfNullOrEmpty(path);
        using var scope = NewDisposeScope();
        return LoadModel(model, ModelFile.Read(path), nameof(path));
    }

    private static LoadedWeights LoadModel(nn.Module model, IReadOnlyDictionary<string, Tensor> given, string parameter)
    {
        var own = model.state_dict();
        var difference = Compare(model, own, given.Keys.ToHashSet(), parameter);
        var known = given.Where(entry => own.ContainsKey(entry.Key)).ToArray();
        Refuse([.. known.Select(entry => Misfit(entry.Key, entry.Value, own[entry.Key])).OfType<string>()], parameter);
        using var noGrad = no_grad();
        foreach (var (name, tensor) in known)
        {
            own[name].copy_(tensor);
        }

        return difference;
    }

    /// <summary>What is wrong with a given tensor; null if it can be copied to the model's. Floating point types are converted to each other.</summary>
    private static string? Misfit(string name, Tensor? given, Tensor own) =>
        given is null ? $"'{name}' is null"
        : !Describe.HasShape(given, Describe.Sizes(own)) ? $"'{name}' has shape {Describe.Shape(given)}; the model's is {Describe.Shape(own)}"
        : given.dtype != own.dtype && !(Describe.IsFloating(given.dtype) && Describe.IsFloating(own.dtype)) ? $"'{name}' is of type {given.dtype}; the model's is {own.dtype}"
        : null;

    private static LoadedWeights Compare(nn.Module model, Dictionary<string, Tensor> own, HashSet<string> given, string parameter)
    {
        var layers = ModelLayers.Of(model).Select(entry => entry.Name).ToHashSet();
        string[] missing = [.. own.Keys.Where(name => !given.Contains(name))], leftOver = [.. given.Where(name => !own.ContainsKey(name))];
        Refuse(
            [
                .. missing.Where(name => !IsOfMemory(name)).Select(name => $"'{name}' {Describe.Shape(own[name])} is missing"),
                .. leftOver.Where(name => !IsOfMemory(name)).Select(name => $"'{name}' is left over"),
            ],
            parameter);
        return new(missing, leftOver);

        bool IsOfMemory(string name) => MemoryParameters.LayerOf(name) is { } layer && layers.Contains(layer);
    }

    private static void Refuse(string[] problems, string parameter)
    {
        if (problems.Length > 0)
        {
            throw new ArgumentException($"The weights do not fit the model, and nothing was loaded:\n  {string.Join("\n  ", problems)}", parameter);
        }
    }
}
