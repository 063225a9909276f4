namespace TorchSharp.ContractTests;

public class OperatorTests : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();
    private readonly Tensor a = torch.tensor(new float[] { 1, 2, 3, 4 }, 2, 2);
    private readonly Tensor b = torch.tensor(new float[] { 5, 6, 7, 8 }, 2, 2);

    public void Dispose() => scope.Dispose();

    [Fact]
    public void Arithmetic()
    {
        Near.Equal([6, 8, 10, 12], a + b);
        Near.Equal([-4, -4, -4, -4], a - b);
        Near.Equal([5, 12, 21, 32], a * b);
        Near.Equal([0.2, 1 / 3.0, 3 / 7.0, 0.5], a / b);
        Near.Equal([2, 3, 4, 5], a + 1);
        Near.Equal([0, -1, -2, -3], 1 - a);
        Near.Equal([2, 1, 2 / 3.0, 0.5], 2.0 / a);
        Near.Equal([11, 14, 17, 20], a.add(b, 2));
        Near.Equal([-1, -2, -3, -4], -a);
        Near.Equal([1, 0, 1, 0], a % 2);
        Near.Equal([0, 1, 1, 2], a.div(2, RoundingMode.floor));
        Near.Equal([1, 4, 9, 16], a.square());
        Near.Equal([1, 8, 27, 64], a.pow(3));
        Near.Equal([11, 14, 17, 20], a.addcmul(b, ones(2, 2), 2));
        Near.Equal([1.2, 2 + 1 / 3.0, 3 + 3 / 7.0, 4.5], a.addcdiv(a, b, 1));
    }

    [Fact]
    public void Elementwise()
    {
        var x = torch.tensor(new double[] { -1, 0, 0.5, 2 });
        Near.Equal([Math.Exp(-1), 1, Math.Exp(0.5), Math.Exp(2)], x.exp());
        Near.Equal([Math.Exp(-1) - 1, 0, 0.5, 2], x.elu());
        Near.Equal([Math.Exp(-1), 1, 1.5, 3], nn.functional.elu(x, 1.0) + 1);
        Near.Equal([0, 0, 0.5, 2], x.relu());
        Near.Equal([1 / (1 + Math.E), 0.5, 1 / (1 + Math.Exp(-0.5)), 1 / (1 + Math.Exp(-2))], x.sigmoid());
        Near.Equal([-1 / (1 + Math.E), 0, 0.5 / (1 + Math.Exp(-0.5)), 2 / (1 + Math.Exp(-2))], nn.functional.silu(x));
        Near.Equal([-0.15865525, 0, 0.34573123, 1.95449974], x.gelu());
        Near.Equal([Math.Log(1 + Math.Exp(-1)), Math.Log(2), Math.Log(1 + Math.Exp(0.5)), Math.Log(1 + Math.Exp(2))], x.softplus());
        Near.Equal([-0.5, 0, 0.5, 1], x.clamp(-0.5, 1));
        Near.Equal([Math.Tanh(-1), 0, Math.Tanh(0.5), Math.Tanh(2)], x.tanh());
        Near.Equal([1, 0, 0.5, 2], x.abs());
        Near.Equal([1, 0.5], torch.tensor(new double[] { 1, 4 }).rsqrt());
        Near.Equal([0, 1, 0, 0], x.logical_not());
        Near.Equal([9, 0, 9, 9], x.masked_fill(x != 0, 9));
        Near.Equal([-1, 7, 0.5, 2], where(x == 0, full([4], 7.0, ScalarType.Float64), x));
    }

    [Fact]
    public void Comparisons()
    {
        Near.Equal([0, 0, 1, 1], a > 2);
        Near.Equal([0, 1, 1, 1], 2 <= a);
        Near.Equal([1, 1, 1, 1], a.lt(b));
        Near.Equal([0, 1, 0, 0], a.eq(2));
        Assert.Equal(ScalarType.Bool, (a == b).dtype);
        Assert.True(a.Equals(a.clone()));
        Assert.False(a.Equals(b));
        Assert.True(a.allclose(a + 1e-7));
        Assert.True(bool.Parse(a.isfinite().all().item<bool>().ToString()));
        Near.Equal([5, 6, 7, 8], maximum(a, b));
        Near.Equal([1, 2, 3, 4], a.minimum(b));
    }

    [Fact]
    public void Reductions()
    {
        Near.Equal([10], a.sum());
        Near.Equal([4, 6], a.sum(dim: 0));
        Near.Equal([10], a.sum(0));   // the literal 0 is a ScalarType rather than a dimension
        Assert.Equal(ScalarType.Byte, a.sum(0).dtype);
        Near.Equal([3, 7], a.sum([1], keepdim: true));
        Assert.Equal([2L, 1L], a.sum([1], keepdim: true).shape);
        Near.Equal([2.5], a.mean());
        Near.Equal([2, 3], a.mean([0]));
        Near.Equal([1.29099445], a.std());
        Near.Equal([0.25, 0.25], a.var(1, unbiased: false));
        Near.Equal([Math.Sqrt(30)], a.norm());
        Near.Equal([3, 4], a.amax(0));
        Near.Equal([24], a.prod());
        Near.Equal([1, 3], a.argmax(1) * 2 + torch.tensor(new long[] { -1, 1 }));
        var (values, indexes) = a.max(1);
        Near.Equal([2, 4], values);
        Near.Equal([1, 1], indexes);
        (values, indexes) = torch.tensor(new float[] { 3, 9, 5 }).topk(2);
        Near.Equal([9, 5], values);
        Near.Equal([1, 2], indexes);
        Near.Equal([1, 3, 6], torch.tensor(new long[] { 1, 2, 3 }).cumsum(0));
        Near.Equal([Math.Log(Math.E + Math.E * Math.E)], torch.tensor(new double[] { 1, 2 }).logsumexp(0));
        Assert.Equal(ScalarType.Int64, torch.tensor(new[] { true, true }).sum().dtype);
        Near.Equal([0.26894142, 0.73105858], torch.tensor(new double[] { 1, 2 }).softmax(0));
    }

    [Fact]
    public void LinearAlgebra()
    {
        Near.Equal([19, 22, 43, 50], a.matmul(b));
        Near.Equal([19, 22, 43, 50], a.mm(b));
        Near.Equal([19, 22, 43, 50], bmm(a.unsqueeze(0), b.unsqueeze(0)));
        Near.Equal([20, 24, 46, 54], a.addmm(a, b));
        Near.Equal([19, 22, 43, 50], einsum("ij,jk->ik", a, b));
        Near.Equal([5, 6, 10, 12], torch.tensor(new float[] { 1, 2 }).outer(torch.tensor(new float[] { 5, 6 })));
        Near.Equal([1, 0, 3, 4], a.tril());
        Near.Equal([0, 2, 0, 0], a.triu(1));
        Near.Equal([18, 40], nn.functional.linear(torch.tensor(new float[] { 5, 6 }), a, torch.tensor(new float[] { 1, 1 })));
    }

    [Fact]
    public void Shapes()
    {
        var x = arange(24).view(2, 3, 4);
        Assert.Equal([2L, 3L, 4L], x.shape);
        Assert.Equal([12L, 4L, 1L], x.stride());
        Assert.Equal(3, x.size(1));
        Assert.Equal(4, x.size(-1));
        Assert.Equal(12, x.stride(0));
        Assert.Throws<System.Runtime.InteropServices.ExternalException>(() => x.size(3));
        Assert.Equal([4L, 3L, 2L], x.permute(2, 1, 0).shape);
        Assert.False(x.transpose(0, 1).is_contiguous());
        Assert.Equal([6L, 4L], x.flatten(0, 1).shape);
        Assert.Equal([2L, 3L, 2L, 2L], x.unflatten(2, 2, 2).shape);
        Assert.Equal([2L, 3L, 4L, 1L], x.unsqueeze(-1).shape);
        Assert.Equal([2L, 3L, 4L], x.unsqueeze(0).squeeze(0).shape);
        Assert.Equal([5L, 2L, 3L, 4L], x.unsqueeze(0).expand(5, -1, -1, -1).shape);
        Assert.Equal([4L, 3L, 4L], x.repeat(2, 1, 1).shape);
        Assert.Equal(3, x.unbind(1).Length);
        Assert.Equal([2L, 1L], x.split(2, 1).Select(part => part.size(1)));
        Assert.Equal([1L, 2L], x.split([1, 2], 1).Select(part => part.size(1)));
        Assert.Equal(2, x.chunk(2, 2).Length);
        Near.Equal([4, 5, 6, 7], x.select(0, 0).select(0, 1));
        Near.Equal([1, 2], x.narrow(2, 1, 2)[0, 0]);
        Near.Equal([1, 3], x.slice(2, 1, 4, 2)[0, 0]);
        Near.Equal([3, 2, 1, 0], x[0, 0].flip(0));
        Near.Equal([3, 0, 1, 2], x[0, 0].roll(1, 0));
        Near.Equal([0, 0, 1, 1], x[0, 0, ..2].repeat_interleave(2));
        Near.Equal([0, 1, 2, 3, 0, 1, 2, 3], cat([x[0, 0], x[0, 0]], 0));
        Assert.Equal([2L, 4L], stack([x[0, 0], x[0, 1]]).shape);
        Near.Equal([9, 0, 1, 9], nn.functional.pad(x[0, 0, ..2], (1L, 1L), PaddingModes.Constant, 9));
        Assert.Equal([2L, 2L, 4L], a.unsqueeze(1).expand_as(ones(2, 2, 2)).repeat(1, 1, 2).shape);
    }

    [Fact]
    public void Indices()
    {
        var x = arange(12).view(3, 4);
        Near.Equal([4, 5, 6, 7], x[1]);
        Near.Equal([8, 9, 10, 11], x[-1]);
        Near.Equal([6], x[1, 2]);
        Near.Equal([2, 6, 10], x[TensorIndex.Ellipsis, 2]);
        Near.Equal([5, 6, 9, 10], x[1.., 1..3]);
        Near.Equal([0, 2, 8, 10], x[TensorIndex.Slice(0, null, 2), TensorIndex.Slice(null, null, 2)]);
        Near.Equal([1, 5, 9], x[TensorIndex.Colon, 1]);
        Near.Equal([3, 7, 11], x[.., ^1]);
        Assert.Equal([3L, 1L, 4L], x[TensorIndex.Colon, TensorIndex.None].shape);
        Assert.Equal([1L, 3L, 4L], x[TensorIndex.None, TensorIndex.Ellipsis].shape);
        Near.Equal([8, 9, 10, 11, 0, 1, 2, 3], x[torch.tensor(new long[] { 2, 0 })]);
        Near.Equal([9, 2], x[torch.tensor(new long[] { 2, 0 }), torch.tensor(new long[] { 1, 2 })]);
        Near.Equal([10, 11], x[x > 9]);
        Near.Equal([2, 10], x[TensorIndex.Tensor(torch.tensor(new[] { true, false, true })), TensorIndex.Single(2)]);
    }

    [Fact]
    public void AssignmentsThroughIndices()
    {
        var x = zeros(2, 3);
        x[0] = ones(3);
        x[1, 2] = torch.tensor(5f);
        Near.Equal([1, 1, 1, 0, 0, 5], x);
        x[TensorIndex.Colon, TensorIndex.Slice(0, 2)] = full([2, 2], 7f);
        Near.Equal([7, 7, 1, 7, 7, 5], x);
        x[x == 7] = torch.tensor(0f);
        Near.Equal([0, 0, 1, 0, 0, 5], x);
        x.index_put_(torch.tensor(2f), TensorIndex.Single(0), TensorIndex.Colon);
        Near.Equal([2, 2, 2, 0, 0, 5], x);
    }

    [Fact]
    public void GatherAndScatter()
    {
        var rows = torch.tensor(new long[] { 1, 0 });
        Near.Equal([3, 4, 1, 2], a.index_select(0, rows));
        Near.Equal([3, 4, 1, 2], zeros(2, 2).index_copy_(0, rows, a));
        Near.Equal([4, 6, 4, 6], a.clone().index_add_(0, rows, a, 1));
        Near.Equal([2, 3], a.gather(1, torch.tensor(new long[] { 1, 0 }, 2, 1)));
        Near.Equal([0, 1, 3, 0], zeros(2, 2).scatter_(1, torch.tensor(new long[] { 1, 0 }, 2, 1), a));
        Near.Equal([2, 3], a.masked_select(torch.tensor(new[] { false, true, true, false }, [2, 2])));
        Assert.Throws<ArgumentException>(() => a.index_select(0, rows).index_copy_(0, rows.to(ScalarType.Int32), a));
        Near.Equal([1, 2, 9, 9], a.masked_fill(a > 2, 9));
    }

    [Fact]
    public void Losses()
    {
        var logits = torch.tensor(new double[] { 1, 2, 3, 1 }, 2, 2);
        var target = torch.tensor(new long[] { 1, 0 });
        double first = Math.Log(1 + Math.Exp(-1)), second = Math.Log(1 + Math.Exp(-2));
        Near.Equal([(first + second) / 2], nn.functional.cross_entropy(logits, target));
        Near.Equal([first, second], nn.functional.cross_entropy(logits, target, reduction: nn.Reduction.None));
        Near.Equal([first], nn.functional.cross_entropy(logits, torch.tensor(new long[] { 1, -100 })));
        Near.Equal([16], nn.functional.mse_loss(a, b));
    }

    [Fact]
    public void Normalisation()
    {
        var x = torch.tensor(new double[] { 1, 3 }, 1, 2);
        Near.Equal([-1, 1], nn.functional.layer_norm(x, [2], eps: 0));
        using var norm = nn.LayerNorm(2, eps: 0, dtype: ScalarType.Float64);
        Near.Equal([-1, 1], norm.call(x));
        Assert.Equal(["weight", "bias"], norm.state_dict().Keys);
        Near.Equal([0.6, 0.8], nn.functional.normalize(torch.tensor(new double[] { 3, 4 }, 1, 2)));
    }

    [Fact]
    public void Dropout()
    {
        manual_seed(1);
        var x = ones(1000);
        Near.Equal(x, nn.functional.dropout(x, 0.5, training: false));
        var dropped = nn.functional.dropout(x, 0.25);
        Assert.InRange((dropped == 0).sum().item<long>(), 180, 320);
        Near.Equal([1 / 0.75], dropped.max());
    }
}
