using TorchSharp;

namespace InfiniAttention.Tests;

/// <summary>Counts the tensors that code leaves alive on this thread.</summary>
internal static class LiveTensors
{
    public static long Count
    {
        get
        {
            HostFeatures.DisposeOfReturned(); // those of an earlier test too
            return DisposeScopeManager.Statistics.TensorStatistics.ThreadTotalLiveCount;
        }
    }

    /// <summary>How many more tensors are alive after the action than before.</summary>
    public static long LeftBy(Action action)
    {
        long before = Count;
        action();
        return Count - before;
    }
}
