using TorchSharp;

namespace InfiniAttention.Tests;

/// <summary>Counts the tensors that code leaves alive on this thread.</summary>
internal static class LiveTensors
{
    public static long Count => DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;

    /// <summary>Tensors alive after the action that were not before.</summary>
    public static long LeftBy(Action action)
    {
        long before = Count;
        action();
        return Count - before;
    }
}
