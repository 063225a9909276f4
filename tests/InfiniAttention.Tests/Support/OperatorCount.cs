#if TORCH_SUBSET
using TorchSharp.Subset;

namespace InfiniAttention.Tests;

/// <summary>Counts operator calls; TorchSharp itself has no such counter, so tests that use it exist with the subset only.</summary>
internal static class OperatorCount
{
    public static long Of(Action action)
    {
        long before = OperatorCalls.Count;
        action();
        return OperatorCalls.Count - before;
    }
}
#endif
