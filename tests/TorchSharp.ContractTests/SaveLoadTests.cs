namespace TorchSharp.ContractTests;

public sealed class SaveLoadTests : IDisposable
{
    private readonly string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName());

    public void Dispose() => File.Delete(path);

    [Fact]
    public void AModuleComesBackAsItWas()
    {
        using var saved = nn.Sequential(("first", nn.Linear(3, 2)), ("norm", nn.LayerNorm(2)));
        using var loaded = nn.Sequential(("first", nn.Linear(3, 2)), ("norm", nn.LayerNorm(2)));
        saved.save(path);
        var found = new Dictionary<string, bool>();
        loaded.load(path, loadedParameters: found);
        foreach (var (key, tensor) in saved.state_dict()) Near.Equal(tensor, loaded.state_dict()[key], 0);
        Assert.Equal(saved.state_dict().Keys, found.Keys);
        using var other = nn.Sequential(("first", nn.Linear(3, 2)));
        Assert.Throws<ArgumentException>(() => other.load(path));
        Assert.Throws<FileNotFoundException>(() => other.load(path + ".none"));
    }

    [Fact]
    public void TheFileIsThatOfTorchSharp()
    {
        using var module = nn.Linear(2, 1);
        module.load_state_dict(new() { ["weight"] = torch.tensor(new float[] { 1, 2 }, 1, 2), ["bias"] = torch.tensor(new float[] { 3 }) });
        module.save(path);
        Assert.Equal(
            [2,
             6, .. "weight"u8, 6, 2, 1, 2, 0, 0, 128, 63, 0, 0, 0, 64,
             4, .. "bias"u8, 6, 1, 1, 0, 0, 64, 64],
            File.ReadAllBytes(path));
    }

    [Fact]
    public void ATensorComesBackAsItWas()
    {
        using var tensor = arange(300).view(3, 100).to(ScalarType.Float64);
        tensor.Save(path);
        using var loaded = Tensor.Load(path);
        Assert.True(tensor.Equals(loaded));
    }

    [Fact]
    public void AnOptimiserGoesOnWhereItWas()
    {
        Parameter Fresh() => nn.Parameter(ones(2));
        void Step(optim.Optimizer optimizer, Parameter parameter, double gradient)
        {
            parameter.grad = full([2], gradient, ScalarType.Float32);
            optimizer.step();
        }
        Parameter a = Fresh(), b = Fresh();
        using var first = optim.AdamW([a], lr: 0.1);
        Step(first, a, 1);
        first.save_state_dict(path);
        using var second = optim.AdamW([b], lr: 0.5);
        using (no_grad()) b.copy_(a);
        second.load_state_dict(path);
        Step(first, a, -2);
        Step(second, b, -2);
        Near.Equal(a, b, 0);
    }
}
