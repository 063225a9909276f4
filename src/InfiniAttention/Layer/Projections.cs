using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The projections of a layer: q (…, H*K), k (…, G*K) and v (…, G*V) from x (…, D), and from the heads' outputs (…, H*V) back
/// to (…, D). They are created by the layer, given to it, or functions of a block that stores its weights in another layout.
/// </summary>
internal sealed record Projections(Func<Tensor, Tensor> Query, Func<Tensor, Tensor> Key, Func<Tensor, Tensor> Value, Func<Tensor, Tensor> Output)
{
    /// <summary>The modules that the layer registers; null if another module holds the weights.</summary>
    public ProjectionModules? Modules { get; private init; }

    /// <summary>Whether the projections are linear layers that the layer created.</summary>
    public bool AreOwn { get; private init; }

    public static Projections Own(Linear query, Linear key, Linear value, Linear output) => Of(query, key, value, output) with { AreOwn = true };

    public static Projections Of(nn.Module<Tensor, Tensor> query, nn.Module<Tensor, Tensor> key, nn.Module<Tensor, Tensor> value, nn.Module<Tensor, Tensor> output)
    {
        ArgumentNullException.ThrowIfNull(query, "q_proj");
        ArgumentNullException.ThrowIfNull(key, "k_proj");
        ArgumentNullException.ThrowIfNull(value, "v_proj");
        ArgumentNullException.ThrowIfNull(output, "o_proj");
        return new(query.call, key.call, value.call, output.call) { Modules = new(query, key, value, output) };
    }

    /// <summary>Initialises the layer's own projections as <c>nn.Linear</c> does.</summary>
    public void Reset()
    {
        if (!AreOwn)
        {
            return;
        }

        foreach (var linear in new[] { Modules!.Query, Modules.Key, Modules.Value, Modules.Output }.Cast<Linear>())
        {
            nn.init.kaiming_uniform_(linear.weight, Math.Sqrt(5));
            if (linear.bias is { } bias)
            {
                var bound = 1 / Math.Sqrt(linear.weight.size(1));
                nn.init.uniform_(bias, -bound, bound);
            }
        }
    }
}

/// <summary>Projections as modules.</summary>
internal sealed record ProjectionModules(nn.Module<Tensor, Tensor> Query, nn.Module<Tensor, Tensor> Key, nn.Module<Tensor, Tensor> Value, nn.Module<Tensor, Tensor> Output);
