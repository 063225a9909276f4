using TorchSharp;

namespace InfiniAttention.Tests;

/// <summary>Counts the tensors that an action creates on this thread: one for almost every operator call, views included.</summary>
internal static class CreatedTensors
{
    public static long By(Action action)
    {
        long before = Count;
        action();
        return Count - before;
    }

    private static long Count
    {
        get
        {
            var statistics = DisposeScopeManager.Statistics.TensorStatistics;
            return statistics.CreatedInScopeCount + statistics.CreatedOutsideScopeCount;
        }
    }
}
