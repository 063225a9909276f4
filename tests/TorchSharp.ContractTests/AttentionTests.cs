namespace TorchSharp.ContractTests;

public class AttentionTests : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();

    public AttentionTests() => manual_seed(5);

    public void Dispose() => scope.Dispose();

    private static Tensor ByTheBook(Tensor q, Tensor k, Tensor v, Tensor? bias)
    {
        var scores = q.matmul(k.transpose(-2, -1)) / Math.Sqrt(q.shape[^1]);
        return (bias is null ? scores : scores + bias).softmax(-1).matmul(v);
    }

    private static Tensor CausalBias(long rows, long columns) =>
        zeros(rows, columns).masked_fill(ones(rows, columns, dtype: ScalarType.Bool).triu(1), float.NegativeInfinity);

    [Theory]
    [InlineData(3, 2, 7, 7)]
    [InlineData(1, 1, 700, 700)]
    [InlineData(15, 4, 300, 300)]
    [InlineData(2, 3, 5, 300)]
    public void CausalAttention(long batch, long heads, long rows, long columns)
    {
        Tensor q = randn(batch, heads, rows, 8), k = randn(batch, heads, columns, 8), v = randn(batch, heads, columns, 8);
        Near.Equal(ByTheBook(q, k, v, null), nn.functional.scaled_dot_product_attention(q, k, v), 1e-4);
        Near.Equal(ByTheBook(q, k, v, CausalBias(rows, columns)), nn.functional.scaled_dot_product_attention(q, k, v, null, 0.0, true), 1e-4);
    }

    [Theory]
    [InlineData(6)]
    [InlineData(600)]
    public void Masks(long length)
    {
        Tensor q = randn(2, 3, length, 8), k = randn(2, 3, length, 8), v = randn(2, 3, length, 8);
        var bias = randn(length, length);
        Near.Equal(ByTheBook(q, k, v, bias), nn.functional.scaled_dot_product_attention(q, k, v, bias), 1e-4);
        var perBatch = randn(2, 1, 1, length);
        Near.Equal(ByTheBook(q, k, v, perBatch), nn.functional.scaled_dot_product_attention(q, k, v, perBatch), 1e-4);
        var visible = ones(length, length, dtype: ScalarType.Bool).tril();
        Near.Equal(ByTheBook(q, k, v, CausalBias(length, length)), nn.functional.scaled_dot_product_attention(q, k, v, visible), 1e-4);
    }

    [Fact]
    public void BadArgumentsAreRefused()
    {
        var q = randn(1, 1, 2, 4);
        Assert.Throws<ArgumentException>(() => nn.functional.scaled_dot_product_attention(q, q, q, zeros(2, 2), 0.0, true));
        Assert.Throws<ArgumentException>(() => nn.functional.scaled_dot_product_attention(q, q, q, null, -0.5));
    }

    [Fact]
    public void MultiheadAttentionIsAttentionOfItsHeads()
    {
        const long Width = 8, Heads = 2, Length = 5, Batch = 3;
        using var module = nn.MultiheadAttention(Width, Heads);
        using (no_grad()) module.get_parameter("in_proj_bias")!.normal_();
        var x = randn(Length, Batch, Width);
        var parts = nn.functional.linear(x, module.get_parameter("in_proj_weight")!, module.get_parameter("in_proj_bias"))
            .chunk(3, -1).Select(t => t.view(Length, Batch, Heads, Width / Heads).permute(1, 2, 0, 3)).ToArray();
        var bias = CausalBias(Length, Length);
        var merged = ByTheBook(parts[0], parts[1], parts[2], bias).permute(2, 0, 1, 3).reshape(Length, Batch, Width);
        var expected = nn.functional.linear(merged, module.get_parameter("out_proj.weight")!, module.get_parameter("out_proj.bias"));
        var (output, weights) = module.call(x, x, x, attn_mask: bias);
        Near.Equal(expected, output, 1e-4);
        Assert.Equal([Batch, Length, Length], weights.shape);
        Near.Equal(ones(Batch, Length), weights.sum(-1), 1e-4);
        var padding = zeros(Batch, Length, dtype: ScalarType.Bool);
        padding[1, Length - 1] = torch.tensor(true);
        var (_, padded) = module.call(x, x, x, padding);
        Near.Equal([0, 0, 0, 0, 0], padded[1, TensorIndex.Colon, -1]);
    }
}
