using InfiniAttention.Tests.Oracle;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The oracle and the library against the golden cases.</summary>
public class GoldenTests
{
    private const double Tolerance = 1e-9;

    public static TheoryData<string> Cases => [.. GoldenCase.Names];

    [Fact]
    public void All_42_cases_are_there() => Assert.Equal(42, GoldenCase.Names.Count());

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_oracle_reproduces_a_case(string name)
    {
        using var scope = NewDisposeScope();
        var golden = GoldenCase.Load(name);
        var weights = golden.Tensors("weights").ToDictionary(w => w.Key, w => w.Value.requires_grad_(true));
        Tensor x = golden.Tensor("input").requires_grad_(true);
        var oracle = new OracleAttention(golden.Options, weights);
        OracleRow[] rows = oracle.NewState(x.shape[0]);
        Tensor output = oracle.Forward(rows, x, golden.Info);

        Compare(golden, output, OracleAttention.Memory(rows), OracleAttention.Normalizer(rows), x, weights);
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_library_reproduces_a_case(string name)
    {
        using var scope = NewDisposeScope();
        var golden = GoldenCase.Load(name);
        InfiniAttentionModule layer = Layers.With(golden.Options, golden.Tensors("weights"));
        Tensor x = golden.Tensor("input").requires_grad_(true);
        (Tensor output, MemoryState state) = layer.ForwardFrom(null, x, golden.Info);

        Difference.Close(golden.Tensor("output"), layer.forward(x, golden.Info), Tolerance, "output of forward");
        var weights = layer.named_parameters().ToDictionary(p => p.name, p => (Tensor)p.parameter);
        Compare(golden, output, state.Memory, state.Normalizer, x, weights);
    }

    private static void Compare(
        GoldenCase golden, Tensor output, Tensor memory, Tensor normalizer, Tensor x, Dictionary<string, Tensor> weights)
    {
        Difference.Close(golden.Tensor("output"), output, Tolerance, "output");
        Difference.Close(golden.Tensor("memory"), memory, Tolerance, "memory");
        Difference.Close(golden.Tensor("normalizer"), normalizer, Tolerance, "normalizer");

        (output * golden.Tensor("probe")).sum().backward();
        Difference.Close(golden.Tensor("grad_input"), x.grad!, Tolerance, "gradient of the input");
        Dictionary<string, Tensor> gradients = golden.Tensors("grad_weights");
        Assert.Equal(gradients.Keys.Order(), weights.Keys.Order());
        foreach ((string name, Tensor gradient) in gradients)
        {
            Difference.Close(gradient, weights[name].grad ?? zeros_like(weights[name]), Tolerance, $"gradient of {name}");
        }
    }
}
