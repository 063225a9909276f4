using static TorchSharp.torch;

namespace TorchSharp;

/// <summary>Holds what was made while it was the innermost scope of its thread, and disposes of it when it is disposed of.</summary>
public sealed class DisposeScope : IDisposable
{
    private DisposeScopeManager? manager;

    internal DisposeScope(DisposeScopeManager manager)
    {
        this.manager = manager;
        OuterScope = manager.CurrentDisposeScope;
    }

    internal DisposeScope? OuterScope { get; set; }

    internal HashSet<IDisposable> Disposables { get; private set; } = new(ReferenceEqualityComparer.Instance);

    public IReadOnlyList<IDisposable> DisposablesView => Open().held.ToArray();

    public int DisposablesCount => Open().held.Count;

    public T MoveToOuter<T>(T disposable) where T : IDisposable
    {
        Move(OuterScope, disposable);
        return disposable;
    }

    public (T1 first, T2 second) MoveToOuter<T1, T2>(T1 first, T2 second) where T1 : IDisposable where T2 : IDisposable =>
        (MoveToOuter(first), MoveToOuter(second));

    public (T1 first, T2 second, T3 third) MoveToOuter<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable where T2 : IDisposable where T3 : IDisposable =>
        (MoveToOuter(first), MoveToOuter(second), MoveToOuter(third));

    public void MoveToOuter(params IDisposable[] disposables) => MoveToOuter((IEnumerable<IDisposable>)disposables);

    public void MoveToOuter(IEnumerable<IDisposable> disposables) => MoveToOther(OuterScope, disposables);

    public T MoveToOther<T>(DisposeScope? scope, T disposable) where T : IDisposable
    {
        Move(scope, disposable);
        return disposable;
    }

    public void MoveToOther(DisposeScope? scope, params IDisposable[] disposables) => MoveToOther(scope, (IEnumerable<IDisposable>)disposables);

    public void MoveToOther(DisposeScope? scope, IEnumerable<IDisposable> disposables)
    {
        Open();
        foreach (var disposable in disposables) Move(scope, disposable);
    }

    public T Detach<T>(T disposable) where T : IDisposable
    {
        Move(null, disposable);
        return disposable;
    }

    public (T1 first, T2 second) Detach<T1, T2>(T1 first, T2 second) where T1 : IDisposable where T2 : IDisposable =>
        (Detach(first), Detach(second));

    public (T1 first, T2 second, T3 third) Detach<T1, T2, T3>(T1 first, T2 second, T3 third)
        where T1 : IDisposable where T2 : IDisposable where T3 : IDisposable =>
        (Detach(first), Detach(second), Detach(third));

    public void Detach(params IDisposable[] disposables) => Detach((IEnumerable<IDisposable>)disposables);

    public void Detach(IEnumerable<IDisposable> disposables) => MoveToOther(null, disposables);

    public void Attach(IDisposable disposable) => Attach((IEnumerable<IDisposable>)[disposable]);

    public void Attach(params IDisposable[] disposables) => Attach((IEnumerable<IDisposable>)disposables);

    public IReadOnlyList<IDisposable> Attach(IEnumerable<IDisposable> disposables)
    {
        var (owner, _) = Open();
        var attached = new List<IDisposable>();
        foreach (var disposable in disposables) {
            if (Adopt(disposable)) owner.StatisticsInstance.TensorStatistics.AttachedToScopeCount++;
            attached.Add(disposable);
        }
        return attached;
    }

    public void DisposeEverything() => DisposeEverythingBut([]);

    public void DisposeEverythingBut(IEnumerable<IDisposable> inKeep)
    {
        var (_, before) = Open();
        Disposables = new(inKeep, ReferenceEqualityComparer.Instance);
        foreach (var disposable in before)
            if (!Disposables.Contains(disposable)) disposable.Dispose();
    }

    public void DisposeEverythingBut(params IDisposable[] keep) => DisposeEverythingBut((IEnumerable<IDisposable>)keep);

    public T DisposeEverythingBut<T>(T keep) where T : IDisposable
    {
        DisposeEverythingBut((IEnumerable<IDisposable>)[keep]);
        return keep;
    }

    public void MarkAsDisposed(IDisposable disposable)
    {
        Open().held.Remove(disposable);
        if (disposable is Tensor tensor) tensor.OwningDisposeScope = null;
    }

    public bool Contains(IDisposable disposable) => Disposables.Contains(disposable);

    public void Dispose()
    {
        if (manager is null) return;
        DisposeEverything();
        manager.RemoveDisposeScope(this);
        manager = null;
    }

    /// <summary>Where a scope holds <paramref name="original"/>, it holds <paramref name="replacement"/> instead.</summary>
    internal static void ReplaceWith(Tensor original, Tensor replacement)
    {
        if (original.OwningDisposeScope is not { } scope || !scope.Disposables.Remove(original)) return;
        original.OwningDisposeScope = null;
        scope.Adopt(replacement);
    }

    private (DisposeScopeManager owner, HashSet<IDisposable> held) Open() =>
        manager is null ? throw new ObjectDisposedException(GetType().FullName) : (manager, Disposables);

    /// <summary>To another scope, or out of all of them; a disposable that is not held here stays where it is.</summary>
    private void Move(DisposeScope? scope, IDisposable disposable)
    {
        var (owner, held) = Open();
        if (!held.Remove(disposable)) return;
        if (scope is not null) {
            scope.Adopt(disposable);
        } else if (disposable is Tensor tensor) {
            owner.StatisticsInstance.TensorStatistics.DetachedFromScopeCount++;
            tensor.OwningDisposeScope = null;
        }
    }

    private bool Adopt(IDisposable disposable)
    {
        if (disposable is not Tensor tensor) throw new InvalidOperationException("DisposeScope can only manage Tensor or PackedSequence");
        var previous = tensor.OwningDisposeScope;
        if (previous == this) return false;
        Disposables.Add(tensor);
        previous?.Disposables.Remove(tensor);
        tensor.OwningDisposeScope = this;
        return true;
    }
}
