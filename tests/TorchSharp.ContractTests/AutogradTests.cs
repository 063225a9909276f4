using System.Runtime.InteropServices;

namespace TorchSharp.ContractTests;

public class AutogradTests : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();

    public AutogradTests() => manual_seed(3);

    public void Dispose() => scope.Dispose();

    public static TheoryData<string, Func<Tensor, Tensor>> Functions => new() {
        { "elu", x => nn.functional.elu(x, 1.0) },
        { "softmax", x => x.softmax(-1) },
        { "matmul", x => x.matmul(x.transpose(-2, -1)) },
        { "cumsum", x => x.cumsum(0) * x },
        { "index", x => x[1] * x[..2, 1..].sum() },
        { "layer norm", x => nn.functional.layer_norm(x, [3]) },
        { "division", x => x / (x.square().sum() + 1) },
        { "attention", x => nn.functional.scaled_dot_product_attention(x, x, x, null, 0.0, true) },
    };

    [Theory]
    [MemberData(nameof(Functions))]
    public void GradientsAgreeWithFiniteDifferences(string name, Func<Tensor, Tensor> function)
    {
        var x = randn(4, 3, dtype: ScalarType.Float64, requires_grad: true);
        using (var probe = no_grad()) Assert.NotEmpty(name);
        var weights = randn_like(function(x).detach());
        var gradient = autograd.grad([(function(x) * weights).sum()], [x])[0];
        const double Step = 1e-5;
        using var noGradients = no_grad();
        var flat = x.detach().flatten();
        var expected = Enumerable.Range(0, 12).Select(i => {
            double At(double change)
            {
                var moved = flat.clone();
                moved[i] = moved[i] + change;
                return (function(moved.view(4, 3)) * weights).sum().ToDouble();
            }
            return (At(Step) - At(-Step)) / (2 * Step);
        }).ToArray();
        Near.Equal(expected, gradient, 1e-6);
    }

    [Fact]
    public void BackwardAccumulatesIntoLeaves()
    {
        var x = torch.tensor(new float[] { 1, 2 }, requires_grad: true);
        Assert.Null(x.grad);
        (x * 3).sum().backward();
        (x * x).sum().backward();
        Near.Equal([5, 7], x.grad!);
        x.grad = null;
        Assert.Null(x.grad);
        x.grad = ones(2);
        Near.Equal([1, 1], x.grad!);
    }

    [Fact]
    public void BackwardFromAGivenGradient()
    {
        var x = torch.tensor(new float[] { 1, 2 }, requires_grad: true);
        autograd.backward([x * 2], [torch.tensor(new float[] { 10, 100 })]);
        Near.Equal([20, 200], x.grad!);
    }

    [Fact]
    public void SecondDerivatives()
    {
        var x = torch.tensor(3.0, requires_grad: true);
        var first = autograd.grad([x.pow(3)], [x], create_graph: true)[0];
        var second = autograd.grad([first], [x])[0];
        Near.Equal([27], first);
        Near.Equal([18], second);
    }

    [Fact]
    public void AnUnusedInputGivesAnInvalidTensorWhereAllowed()
    {
        var x = torch.tensor(1f, requires_grad: true);
        var unused = torch.tensor(1f, requires_grad: true);
        // Where it is not allowed TorchSharp lets the error end the process.
        var found = autograd.grad([x * 2], [x, unused], allow_unused: true);
        Near.Equal([2], found[0]);
        Assert.True(found[1].IsInvalid);
    }

    [Fact]
    public void AGraphIsGoneAfterItsFirstUse()
    {
        var x = torch.tensor(2f, requires_grad: true);
        var y = x * x;
        y.backward(retain_graph: true);
        y.backward();
        Near.Equal([8], x.grad!);
        Assert.Throws<ExternalException>(() => y.backward());
    }

    [Fact]
    public void ModesNest()
    {
        Assert.True(is_grad_enabled());
        using (no_grad()) {
            Assert.False(is_grad_enabled());
            using (enable_grad()) Assert.True(is_grad_enabled());
            Assert.False(is_grad_enabled());
            Assert.False((torch.tensor(1f, requires_grad: true) * 2).requires_grad);
        }
        Assert.True(is_grad_enabled());
        using (inference_mode()) {
            Assert.True(is_inference_mode_enabled());
            Assert.False(is_grad_enabled());
        }
        Assert.False(is_inference_mode_enabled());
        using (set_grad_enabled(false)) Assert.False(is_grad_enabled());
    }

    [Fact]
    public void DetachedTensorsShareMemoryAndHaveNoGradient()
    {
        var x = torch.tensor(new float[] { 1, 2 }, requires_grad: true);
        var y = (x * 1).detach();
        Assert.False(y.requires_grad);
        Assert.True(y.is_leaf);
        var z = x.detach();
        z.add_(1);
        Near.Equal([2, 3], x);
        Assert.True(x.is_leaf);
        Assert.False((x * 2).is_leaf);
    }

    [Fact]
    public void ALeafThatNeedsAGradientIsNotChangedInPlace()
    {
        var x = torch.tensor(1f, requires_grad: true);
        Assert.Throws<ExternalException>(() => x.add_(1));
        Assert.Throws<ExternalException>(() => x.zero_());
        using (no_grad()) x.add_(1);
        Near.Equal([2], x);
    }

    [Fact]
    public void RetainGradKeepsTheGradientOfWhatIsNoLeaf()
    {
        var x = torch.tensor(2f, requires_grad: true);
        var y = x * 3;
        y.retain_grad();
        y.square().backward();
        Near.Equal([12], y.grad!);
    }
}
