using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Heads and batch rows are independent.</summary>
public class HeadTests(ITestOutputHelper output)
{
    private const double Tolerance = 1e-10;

    [Fact]
    public void Permuting_heads_in_the_weights_permutes_their_memories_and_nothing_else() =>
        Property.Holds(output, LayerCase.Any, 100, 7, (one, difference) =>
        {
            Dictionary<string, Tensor> weights = one.Weights();
            int[] groups = Order(one.Seed, one.KeyValueHeads);
            int[] heads = [.. groups.SelectMany(g => Order(one.Seed + g, one.HeadsPerGroup).Select(h => g * one.HeadsPerGroup + h))];
            var permuted = new Dictionary<string, Tensor>(weights);
            foreach ((string name, int[] order, int width) in new[] { ("q_proj", heads, one.HeadDim), ("k_proj", groups, one.HeadDim), ("v_proj", groups, one.ValueDim) })
            {
                foreach (string entry in new[] { name + ".weight", name + ".bias" }.Where(weights.ContainsKey))
                {
                    permuted[entry] = Pick(weights[entry], 0, order, width);
                }
            }

            permuted["o_proj.weight"] = Pick(weights["o_proj.weight"], 1, heads, one.ValueDim);
            foreach (string name in new[] { "gate", "memory_norm.query_scale", "memory_norm.read_weight", "memory_q_proj.weight" }.Where(weights.ContainsKey))
            {
                permuted[name] = Pick(weights[name], 0, heads, name == "memory_q_proj.weight" ? one.HeadDim : 1);
            }

            foreach (string name in new[] { "memory_norm.key_scale", "memory_k_proj.weight" }.Where(weights.ContainsKey))
            {
                permuted[name] = Pick(weights[name], 0, groups, name == "memory_k_proj.weight" ? one.HeadDim : 1);
            }

            Tensor x = one.Input();
            (Tensor y, MemoryState state) = one.Layer().ForwardFrom(null, x, one.Info());
            (Tensor permutedY, MemoryState permutedState) = Layers.With(one.Options(), permuted).ForwardFrom(null, x, one.Info());
            difference.Add(y, permutedY, Tolerance, "output");
            difference.Add(Pick(state.Memory, 1, groups, 1), permutedState.Memory, Tolerance, "memory");
            difference.Add(Pick(state.Normalizer, 1, groups, 1), permutedState.Normalizer, Tolerance, "normalizer");
        });

    [Fact]
    public void The_grouped_layer_equals_the_full_one_with_its_heads_repeated() =>
        Property.Holds(output, LayerCase.Any, 100, 8, (one, difference) =>
        {
            Dictionary<string, Tensor> weights = one.Weights();
            int[] repeated = [.. Enumerable.Range(0, (int)one.Heads).Select(h => h / one.HeadsPerGroup)];
            var full = new Dictionary<string, Tensor>(weights);
            foreach ((string name, int width) in new[] { ("k_proj", one.HeadDim), ("v_proj", one.ValueDim) })
            {
                foreach (string entry in new[] { name + ".weight", name + ".bias" }.Where(weights.ContainsKey))
                {
                    full[entry] = Pick(weights[entry], 0, repeated, width);
                }
            }

            foreach (string name in new[] { "memory_norm.key_scale", "memory_k_proj.weight" }.Where(weights.ContainsKey))
            {
                full[name] = Pick(weights[name], 0, repeated, name == "memory_k_proj.weight" ? one.HeadDim : 1);
            }

            Tensor x = one.Input();
            (Tensor y, MemoryState state) = one.Layer().ForwardFrom(null, x, one.Info());
            (Tensor fullY, MemoryState fullState) =
                Layers.With(one.Options() with { NumKeyValueHeads = null }, full).ForwardFrom(null, x, one.Info());
            difference.Add(fullY, y, Tolerance, "output");
            difference.Add(fullState.Memory, Pick(state.Memory, 1, repeated, 1), Tolerance, "memory");
        });

    [Fact]
    public void Rows_of_a_batch_are_independent_of_one_another() =>
        Property.Holds(output, LayerCase.Any, 100, 9, (one, difference) =>
        {
            InfiniAttentionModule layer = one.Layer();
            Tensor x = one.Input();
            (Tensor y, MemoryState state) = layer.ForwardFrom(null, x, one.Info());
            for (int b = 0; b < one.Batch; b++)
            {
                Tensor row = tensor(new long[] { b });
                (Tensor alone, MemoryState aloneState) = layer.ForwardFrom(null, x.index_select(0, row), one.Info().Rows(row));
                difference.Add(y.index_select(0, row), alone, Tolerance, $"output of row {b}");
                difference.Add(state.Memory.index_select(0, row), aloneState.Memory, Tolerance, $"memory of row {b}");
            }
        });

    private static int[] Order(int seed, int count)
    {
        int[] order = [.. Enumerable.Range(0, count)];
        new Random(seed).Shuffle(order);
        return order;
    }

    /// <summary>Blocks of equal width along a dimension, in the order given.</summary>
    private static Tensor Pick(Tensor x, int dimension, int[] blocks, int width) =>
        cat([.. blocks.Select(b => x.narrow(dimension, (long)b * width, width))], dimension);
}
