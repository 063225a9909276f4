using System.Runtime.InteropServices;

namespace TorchSharp.ContractTests;

public class ErrorTests
{
    [Fact]
    public void ErrorsOfLibtorchArriveAsExternalExceptions()
    {
        using var a = ones(2, 3);
        using var b = ones(4, 5);
        // Not matmul: there TorchSharp lets the error end the process.
        var thrown = Assert.Throws<ExternalException>(() => a.mm(b));
        Assert.Contains("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)", thrown.Message);
        Assert.Contains("shape '[7]' is invalid for input of size 6", Assert.Throws<ExternalException>(() => a.view(7)).Message);
        Assert.Throws<ExternalException>(() => a.select(0, 2));
        Assert.Throws<ExternalException>(() => a.backward());
    }

    [Fact]
    public void ADisposedTensorCannotBeUsed()
    {
        var gone = ones(1);
        gone.Dispose();
        Assert.Throws<InvalidOperationException>(() => gone + 1);
        Assert.Throws<InvalidOperationException>(() => gone.shape);
    }

    [Fact]
    public void AnErrorLeavesTheNextCallAlone()
    {
        using var a = ones(2);
        Assert.Throws<ExternalException>(() => a.view(7));
        using var sum = a + a;
        Near.Equal([2, 2], sum);
    }

    [Fact]
    public void CudaIsThereOrSaysThatItIsNot()
    {
        if (cuda.is_available()) return;
        Assert.Equal(0, cuda.device_count());
        using var linear = nn.Linear(1, 1);
        using var tensor = ones(1);
        Assert.ThrowsAny<InvalidOperationException>(() => tensor.to(DeviceType.CUDA));
    }
}
