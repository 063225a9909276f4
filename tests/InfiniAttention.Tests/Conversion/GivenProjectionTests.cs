using static TorchSharp.torch;

namespace InfiniAttention.Tests.Conversion;

/// <summary>Layers whose projections were given: plain ones are saved and loaded, others are refused before anything is changed.</summary>
public class GivenProjectionTests
{
    private static readonly InfiniAttentionOptions Options = new() { EmbedDim = 8, NumHeads = 4, NumKeyValueHeads = 2, SegmentLength = 4 };

    [Fact]
    public void Plain_linear_layers_are_saved_and_loaded()
    {
        using var scope = NewDisposeScope();
        manual_seed(50);
        InfiniAttentionModule from = Given(nn.Linear(8, 8, false)), to = Given(nn.Linear(8, 8, false));
        AttentionWeights.Load(to, AttentionWeights.Save(from, AttentionLayout.Phi3));
        Tensor x = randn(2, 3, 8);
        Difference.Close(from.call(x), to.call(x), 1e-6, "output");
    }

    [Fact]
    public void An_adapter_is_refused_by_name()
    {
        using var scope = NewDisposeScope();
        manual_seed(51);
        IsRefused(Given(new Adapted(8, 8)), "'q_proj.weight' (8, 8) is missing", "'q_proj.main.weight' (8, 8) is left over", "'q_proj.up.weight' (8, 2) is left over");
    }

    [Fact]
    public void A_bias_that_the_options_do_not_say_is_refused()
    {
        using var scope = NewDisposeScope();
        manual_seed(52);
        IsRefused(Given(nn.Linear(8, 8)), "'q_proj.bias' (8) is left over");
        IsRefused(Given(nn.Linear(8, 8, false), Options with { QueryBias = true }), "'q_proj.bias' (8) is missing");
    }

    private static InfiniAttentionModule Given(nn.Module<Tensor, Tensor> query, InfiniAttentionOptions? options = null) =>
        new(options ?? Options, query, nn.Linear(8, 4, false), nn.Linear(8, 4, false), nn.Linear(8, 8, false));

    private static void IsRefused(InfiniAttentionModule layer, params string[] words)
    {
        var before = layer.state_dict().ToDictionary(entry => entry.Key, entry => entry.Value.detach().clone());
        Dictionary<string, Tensor> plain = new InfiniAttentionModule(layer.Options).state_dict();
        BadInput.IsRefused(() => AttentionWeights.Save(layer, AttentionLayout.HuggingFaceLlama), "module", words);
        BadInput.IsRefused(() => AttentionWeights.Load(layer, plain), "module", words);
        Assert.All(before, entry => Difference.Close(entry.Value, layer.state_dict()[entry.Key], 0, entry.Key));
    }
}
