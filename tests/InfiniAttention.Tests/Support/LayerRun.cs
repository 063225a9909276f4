using InfiniAttention.Tests.Oracle;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The results of running one layer: outputs, final state, and the gradient of every leaf.</summary>
internal sealed record LayerRun(Tensor Output, Tensor Memory, Tensor Normalizer, IReadOnlyDictionary<string, Tensor> Gradients)
{
    /// <summary>Runs the oracle over a case.</summary>
    public static LayerRun OfOracle(LayerCase one)
    {
        Dictionary<string, Tensor> weights = one.Weights();
        Tensor x = one.Input();
        TokenInfo? info = one.Info();
        var oracle = new OracleAttention(one.Options(), weights);
        OracleRow[] rows = oracle.NewState(one.Batch);
        Tensor output = oracle.Forward(rows, x, info);
        return Finish(one.Seed, output, OracleAttention.Memory(rows), OracleAttention.Normalizer(rows), weights, x, info);
    }

    /// <summary>Runs the library over a case, cut at the given positions into calls that pass on the state with its graph.</summary>
    public static LayerRun OfLibrary(LayerCase one, params int[] cuts)
    {
        InfiniAttentionModule layer = one.Layer();
        Tensor x = one.Input();
        TokenInfo? info = one.Info();
        var outputs = new List<Tensor>();
        MemoryState? state = null;
        int start = 0;
        foreach (int end in cuts.Append(one.Length))
        {
            (Tensor output, state) = layer.ForwardFrom(state, x.narrow(1, start, end - start), info.Part(start, end - start));
            outputs.Add(output);
            start = end;
        }

        Assert.Equal(one.Length, state!.Position);
        var weights = layer.named_parameters().ToDictionary(p => p.name, p => (Tensor)p.parameter);
        return Finish(one.Seed, cat(outputs, 1), state.Memory, state.Normalizer, weights, x, info);
    }

    /// <summary>Compares outputs, final state and all gradients.</summary>
    public void CompareTo(LayerRun expected, double tolerance, Difference difference)
    {
        difference.Add(expected.Output, Output, tolerance, "output");
        difference.Add(expected.Memory, Memory, tolerance, "memory");
        difference.Add(expected.Normalizer, Normalizer, tolerance, "normalizer");
        Assert.Equal(expected.Gradients.Keys.Order(), Gradients.Keys.Order());
        foreach ((string name, Tensor gradient) in expected.Gradients)
        {
            difference.Add(gradient, Gradients[name], tolerance, $"gradient of {name}");
        }
    }

    /// <summary>A randomly weighted sum of the given values, so that gradients flow through all of them.</summary>
    public static Tensor Probe(int seed, params Tensor[] values)
    {
        var draw = new Draw(seed + 3);
        return values.Select(v => (v * draw.Normal(1, v.shape)).sum()).Aggregate((a, b) => a + b);
    }

    private static LayerRun Finish(
        int seed, Tensor output, Tensor memory, Tensor normalizer, Dictionary<string, Tensor> weights, Tensor x, TokenInfo? info)
    {
        Probe(seed, output, memory, normalizer).backward();
        var leaves = new Dictionary<string, Tensor>(weights) { ["input"] = x };
        if (info?.WriteWeights is { } writes)
        {
            leaves["write weights"] = writes;
        }

        return new LayerRun(output, memory, normalizer, leaves.ToDictionary(l => l.Key, l => l.Value.grad ?? zeros_like(l.Value)));
    }
}
