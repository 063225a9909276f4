#if TORCH_SUBSET
using TorchSharp.Subset;

namespace TorchSharp.ContractTests;

/// <summary>TorchSharp has no counter of operator calls: the subset alone has one.</summary>
public class OperatorCallTests
{
    [Fact]
    public void EveryOperatorCallIsCountedOnce()
    {
        using var scope = NewDisposeScope();
        var x = ones(2, 2);
        var before = OperatorCalls.Count;
        _ = (x + x).mul_(2).sum(1);
        Assert.Equal(3, OperatorCalls.Count - before);
        _ = x.shape.Length + x.dim() + (x.requires_grad ? 1 : 0);
        Assert.Equal(3, OperatorCalls.Count - before);
        _ = x[0];
        Assert.Equal(4, OperatorCalls.Count - before);
    }

    [Fact]
    public void EachThreadHasItsOwnCount()
    {
        using var x = ones(1);
        var before = OperatorCalls.Count;
        var thread = new Thread(() => x.add(1).Dispose());
        thread.Start();
        thread.Join();
        Assert.Equal(before, OperatorCalls.Count);
    }
}
#endif
