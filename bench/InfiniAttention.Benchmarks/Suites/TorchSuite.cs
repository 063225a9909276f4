using BenchmarkDotNet.Attributes;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>What the suites share: a dispose scope for what the setup creates, and gradients off unless a suite wants them.</summary>
public abstract class TorchSuite
{
    /// <summary>Tokens of the suites that take a whole sequence.</summary>
    protected const long Tokens = 8 * 1024;

    private readonly List<IDisposable> owned = [];
    private DisposeScope? scope;
    private IDisposable? gradients;

    protected virtual bool WantsGradients => false;

    [GlobalSetup]
    public void SetUp()
    {
        scope = NewDisposeScope();
        gradients = enable_grad(WantsGradients);
        manual_seed(0);
        Prepare();
    }

    [GlobalCleanup]
    public void CleanUp()
    {
        owned.ForEach(disposable => disposable.Dispose());
        owned.Clear();
        gradients?.Dispose();
        scope?.Dispose();
    }

    protected abstract void Prepare();

    /// <summary>Keeps something until the suite is cleaned up.</summary>
    protected T Own<T>(T disposable)
        where T : IDisposable
    {
        owned.Add(disposable);
        return disposable;
    }
}
