namespace TorchSharp.ContractTests;

public class OptimizerTests
{
    /// <summary>AdamW as its authors write it, for one number.</summary>
    private static double AdamW(double x, double[] gradients, double lr, double beta1, double beta2, double eps, double decay)
    {
        double m = 0, v = 0;
        for (var t = 1; t <= gradients.Length; t++) {
            var g = gradients[t - 1];
            x -= lr * decay * x;
            m = beta1 * m + (1 - beta1) * g;
            v = beta2 * v + (1 - beta2) * g * g;
            x -= lr * (m / (1 - Math.Pow(beta1, t))) / (Math.Sqrt(v / (1 - Math.Pow(beta2, t))) + eps);
        }
        return x;
    }

    private static Parameter Weight(double value) => nn.Parameter(torch.tensor(new[] { value }));

    private static void Steps(optim.Optimizer optimizer, double[] gradients)
    {
        foreach (var gradient in gradients) {
            foreach (var parameter in optimizer.parameters()) parameter.grad = torch.tensor(new[] { gradient });
            optimizer.step();
        }
    }

    [Fact]
    public void AdamWByHand()
    {
        double[] gradients = [0.5, -1, 2];
        var weight = Weight(3);
        using var optimizer = optim.AdamW([weight], lr: 0.1, weight_decay: 0.2);
        Steps(optimizer, gradients);
        Near.Equal([AdamW(3, gradients, 0.1, 0.9, 0.999, 1e-8, 0.2)], weight, 1e-12);
    }

    [Fact]
    public void AdamWGroupsHaveTheirOwnOptionsAndInheritTheRest()
    {
        double[] gradients = [0.5, -1];
        Parameter a = Weight(3), b = Weight(3), c = Weight(3);
        using var optimizer = optim.AdamW(
            [
                new AdamW.ParamGroup([a], new AdamW.Options { LearningRate = 0.01, weight_decay = 0 }),
                new AdamW.ParamGroup { Parameters = [b] },
                new AdamW.ParamGroup([c], new AdamW.Options { beta1 = 0.5 })
            ],
            lr: 0.1, weight_decay: 0.3);
        Steps(optimizer, gradients);
        Near.Equal([AdamW(3, gradients, 0.01, 0.9, 0.999, 1e-8, 0)], a, 1e-12);
        Near.Equal([AdamW(3, gradients, 0.1, 0.9, 0.999, 1e-8, 0.3)], b, 1e-12);
        Near.Equal([AdamW(3, gradients, 0.1, 0.5, 0.999, 1e-8, 0.3)], c, 1e-12);
        Assert.Equal([0.01, 0.1, 0.1], optimizer.ParamGroups.Select(g => g.LearningRate));
        foreach (var group in optimizer.ParamGroups) group.LearningRate = 0;
        Steps(optimizer, [5]);
        Near.Equal([AdamW(3, gradients, 0.01, 0.9, 0.999, 1e-8, 0)], a, 1e-12);
    }

    [Fact]
    public void AdamWDecaysNothingUnlessTold()
    {
        var weight = Weight(3);
        using var optimizer = optim.AdamW([weight]);
        Steps(optimizer, [0]);
        Near.Equal([3], weight, 0);
    }

    [Fact]
    public void SgdWithMomentumByHand()
    {
        var weight = Weight(1);
        using var optimizer = optim.SGD([weight], 0.1, momentum: 0.9);
        Steps(optimizer, [1, 1]);
        Near.Equal([1 - 0.1 - 0.1 * 1.9], weight, 1e-12);
    }

    [Fact]
    public void ZeroGradFillsWithZeros()
    {
        var weight = Weight(1);
        using var optimizer = optim.SGD([weight], 0.1);
        weight.grad = torch.tensor(new[] { 4.0 });
        optimizer.zero_grad();
        Near.Equal([0], weight.grad!);
    }

    [Fact]
    public void AParameterWithoutGradientStays()
    {
        var weight = Weight(1);
        using var optimizer = optim.AdamW([weight], weight_decay: 0.5);
        optimizer.step();
        Near.Equal([1], weight, 0);
    }

    [Fact]
    public void ClippingScalesToTheWholeNorm()
    {
        Parameter a = Weight(0), b = Weight(0), none = Weight(0);
        a.grad = torch.tensor(new[] { 3.0 });
        b.grad = torch.tensor(new[] { 4.0 });
        Assert.Equal(5, nn.utils.clip_grad_norm_([a, b, none], 1), 6);
        Near.Equal([0.6], a.grad!, 1e-5);
        Near.Equal([0.8], b.grad!, 1e-5);
        nn.utils.clip_grad_norm_([a, b], 10);
        Near.Equal([0.6], a.grad!, 1e-5);
    }

    [Fact]
    public void StepsLeaveNothingBehind()
    {
        var weight = Weight(1);
        using var optimizer = optim.AdamW([weight]);
        weight.grad = torch.tensor(new[] { 1.0 });
        var before = DisposeScopeManager.Statistics.ThreadTotalLiveCount;
        optimizer.step();
        Assert.Equal(before, DisposeScopeManager.Statistics.ThreadTotalLiveCount);
    }
}
