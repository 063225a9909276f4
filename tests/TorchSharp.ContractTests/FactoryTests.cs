namespace TorchSharp.ContractTests;

public class FactoryTests : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();

    public void Dispose() => scope.Dispose();

    [Fact]
    public void TypesFollowTheValues()
    {
        Assert.Equal(ScalarType.Float32, zeros(2).dtype);
        Assert.Equal(ScalarType.Int64, full([2], 1).dtype);
        Assert.Equal(ScalarType.Float32, full([2], 1.0).dtype);
        Assert.Equal(ScalarType.Int64, arange(3).dtype);
        Assert.Equal(ScalarType.Float32, arange(0, 1, 0.5).dtype);
        Assert.Equal(ScalarType.Int32, torch.tensor(new[] { 1, 2 }).dtype);
        Assert.Equal(ScalarType.Float64, torch.tensor(1.0).dtype);
        Assert.Equal(ScalarType.Float32, torch.tensor(1.0, ScalarType.Float32).dtype);
        Assert.Equal(ScalarType.Int64, randperm(4).dtype);
        Assert.Equal(ScalarType.Int64, randint(0, 5, [3]).dtype);
    }

    [Fact]
    public void ADefaultTypeHoldsForFactories()
    {
        set_default_dtype(ScalarType.Float64);
        try {
            Assert.Equal(ScalarType.Float64, zeros(2).dtype);
            Assert.Equal(ScalarType.Float64, randn(2).dtype);
            Assert.Equal(ScalarType.Float32, torch.tensor(1f).dtype);
        } finally {
            set_default_dtype(ScalarType.Float32);
        }
        Assert.Throws<ArgumentException>(() => set_default_dtype(ScalarType.Int64));
    }

    [Fact]
    public void Values()
    {
        Near.Equal([0, 0.5, 1], linspace(0, 1, 3));
        Near.Equal([2, 5, 8], arange(2, 9, 3));
        Near.Equal([1, 0, 0, 1], eye(2));
        Near.Equal([1, 2, 3, 4, 5, 6], torch.tensor(new float[,] { { 1, 2, 3 }, { 4, 5, 6 } }));
        Assert.Equal([2L, 3L], torch.tensor(new float[,] { { 1, 2, 3 }, { 4, 5, 6 } }).shape);
        Assert.Equal([2L, 2L], torch.tensor(new long[] { 1, 2, 3, 4 }, [2, 2]).shape);
        Near.Equal([0, 1, 2, 3, 4], randperm(5).sort().Values);
        Assert.True(randn(2, requires_grad: true).requires_grad);
        Assert.Throws<ArgumentException>(() => torch.tensor(new float[] { 1, 2 }, 2, 2));
    }

    [Fact]
    public void ATensorCopiesItsArrayAndFromArrayDoesNot()
    {
        var array = new float[] { 1, 2 };
        var copy = torch.tensor(array);
        var shared = from_array(array);
        array[0] = 9;
        Near.Equal([1, 2], copy);
        Near.Equal([9, 2], shared);
    }

    [Fact]
    public void ElementsAreReadAsTheirTypeOnly()
    {
        var x = torch.tensor(new float[] { 1, 2, 3, 4 }, 2, 2);
        Assert.Equal([1f, 2f, 3f, 4f], x.data<float>().ToArray());
        Assert.Equal([1f, 3f, 2f, 4f], x.t().data<float>().ToArray());
        Assert.Equal(3f, x.data<float>()[1, 0]);
        Assert.Equal(4f, x[1, 1].item<float>());
        Assert.Throws<ArgumentException>(() => x.data<double>());
        Assert.Throws<ArgumentException>(() => x.item<float>());
        Assert.Equal(4.0, x.max().ToDouble());
        Assert.Equal(16, x.bytes.Length);
        Assert.Throws<InvalidOperationException>(() => x.t().bytes.Length);
    }

    [Fact]
    public void SeedsGiveTheNumbersOfPyTorch()
    {
        manual_seed(0);
        Near.Equal([1.5410, -0.2934, -2.1788], randn(3), 1e-4);
        var state = get_rng_state();
        var drawn = rand(5);
        set_rng_state(state);
        Near.Equal(drawn, rand(5));
        using var generator = new Generator(7);
        var first = randn(3, generator: generator);
        generator.manual_seed(7);
        Near.Equal(first, randn(3, generator: generator));
    }

    [Fact]
    public void Conversions()
    {
        var x = torch.tensor(new float[] { 1.5f, -2.5f });
        Near.Equal([1, -2], x.to(ScalarType.Int64));
        Assert.Equal(ScalarType.BFloat16, x.bfloat16().dtype);
        Assert.Equal(2, x.half().ElementSize);
        Assert.Equal(DeviceType.CPU, x.to(CPU).device.type);
        Assert.NotSame(x, x.to(ScalarType.Float32));
        using var gone = ones(1);
        gone.to(ScalarType.Float64, disposeAfter: true);
        Assert.True(gone.IsInvalid);
        Assert.Equal(-1, x.device.index);
        Assert.NotEqual(x.device, x.device);
        Assert.Equal("cuda:1", new Device("cuda:1").ToString());
    }

    [Fact]
    public void ThreadsAreSetForTheProcess()
    {
        var before = get_num_threads();
        set_num_threads(1);
        Assert.Equal(1, get_num_threads());
        set_num_threads(before);
        Assert.Equal(before, get_num_threads());
    }
}
