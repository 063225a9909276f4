using static TorchSharp.torch;

namespace TorchSharp;

/// <summary>The dispose scopes of one thread.</summary>
public class DisposeScopeManager
{
    [ThreadStatic] private static DisposeScopeManager? threadSingleton;

    internal static DisposeScopeManager ThreadSingleton => threadSingleton ??= new DisposeScopeManager();

    public static ThreadDisposeScopeStatistics Statistics => ThreadSingleton.StatisticsInstance;

    internal ThreadDisposeScopeStatistics StatisticsInstance { get; } = new();

    internal DisposeScope? CurrentDisposeScope { get; private set; }

    internal DisposeScope NewDisposeScope() => CurrentDisposeScope = new DisposeScope(this);

    internal DisposeScope? RegisterOnCurrentDisposeScope(Tensor tensor)
    {
        if (CurrentDisposeScope is null) {
            StatisticsInstance.TensorStatistics.CreatedOutsideScopeCount++;
        } else {
            StatisticsInstance.TensorStatistics.CreatedInScopeCount++;
            CurrentDisposeScope.Disposables.Add(tensor);
        }
        return CurrentDisposeScope;
    }

    internal void DisposingOnCurrentScope(Tensor tensor)
    {
        if (tensor.OwningDisposeScope is null) StatisticsInstance.TensorStatistics.DisposedOutsideScopeCount++;
        else StatisticsInstance.TensorStatistics.DisposedInScopeCount++;
    }

    internal void RemoveDisposeScope(DisposeScope disposeScope)
    {
        if (CurrentDisposeScope == disposeScope) {
            CurrentDisposeScope = disposeScope.OuterScope;
            return;
        }
        for (var inner = CurrentDisposeScope; inner is not null; inner = inner.OuterScope) {
            if (inner.OuterScope != disposeScope) continue;
            inner.OuterScope = disposeScope.OuterScope;
            return;
        }
    }
}

/// <summary>What this thread made and disposed of.</summary>
public class ThreadDisposeScopeStatistics
{
    public LifetimeStatistics TensorStatistics { get; } = new();

    public long CreatedOutsideScopeCount => TensorStatistics.CreatedOutsideScopeCount;
    public long DisposedOutsideScopeCount => TensorStatistics.DisposedOutsideScopeCount;
    public long CreatedInScopeCount => TensorStatistics.CreatedInScopeCount;
    public long DisposedInScopeCount => TensorStatistics.DisposedInScopeCount;
    public long AttachedToScopeCount => TensorStatistics.AttachedToScopeCount;
    public long DetachedFromScopeCount => TensorStatistics.DetachedFromScopeCount;
    public long ThreadTotalLiveCount => TensorStatistics.ThreadTotalLiveCount;

    public void Reset() => TensorStatistics.Reset();

    public override string ToString() => TensorStatistics.ToString();
}

public class LifetimeStatistics
{
    public long CreatedOutsideScopeCount { get; internal set; }
    public long DisposedOutsideScopeCount { get; internal set; }
    public long CreatedInScopeCount { get; internal set; }
    public long DisposedInScopeCount { get; internal set; }
    public long AttachedToScopeCount { get; internal set; }
    public long DetachedFromScopeCount { get; internal set; }

    public long ThreadTotalLiveCount => CreatedInScopeCount - DisposedInScopeCount + CreatedOutsideScopeCount - DisposedOutsideScopeCount;

    public void Reset() => CreatedOutsideScopeCount = DisposedOutsideScopeCount = CreatedInScopeCount = DisposedInScopeCount =
        AttachedToScopeCount = DetachedFromScopeCount = 0;

    public override string ToString() =>
        $"ThreadTotalLiveCount: {ThreadTotalLiveCount}; CreatedOutsideScopeCount: {CreatedOutsideScopeCount}; " +
        $"DisposedOutsideScopeCount: {DisposedOutsideScopeCount}; CreatedInScopeCount: {CreatedInScopeCount}; " +
        $"DisposedInScopeCount: {DisposedInScopeCount}; AttachedToScopeCount: {AttachedToScopeCount}; DetachedFromScopeCount: {DetachedFromScopeCount}";
}
