using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The states at the beginning of each window of a sequence and at its end.</summary>
/// <remarks>
/// Memories and random states of all windows are stored in preallocated tensors: allocated one by one among a window's temporaries, they
/// would fragment the heap.
/// </remarks>
internal sealed class WindowBoundaries : IDisposable
{
    private readonly StreamStates states;
    private readonly Device? random; // null if the model draws no random numbers
    private readonly (Tensor M, Tensor Z)?[] memories; // of each layer, (W, B, G, K, V) and (W, B, G, K); null before its first token
    private readonly bool?[][] isEmpty; // of each window and layer, whether its memory is known to be 0; null before its first token
    private readonly OpenSegment?[][] open;
    private readonly EarlierSegment?[][] earlier;
    private readonly long[] positions;
    private readonly RandomStates? randomStates;
    private MemoryState?[]? end;
    private RandomState? endRandom;

    /// <param name="states">The stream, at the beginning of the first window.</param>
    /// <param name="windows">The start and length of each window in the input.</param>
    /// <param name="random">The model's device if it draws random numbers; null otherwise.</param>
    public WindowBoundaries(StreamStates states, IReadOnlyList<(long Start, long Length)> windows, Device? random)
    {
        (this.states, Windows, this.random) = (states, windows, random);
        memories = new (Tensor M, Tensor Z)?[states.Layers.Count];
        isEmpty = [.. windows.Select(_ => new bool?[states.Layers.Count])];
        open = [.. windows.Select(_ => new OpenSegment?[states.Layers.Count])];
        earlier = [.. windows.Select(_ => new EarlierSegment?[states.Layers.Count])];
        positions = new long[windows.Count];
        randomStates = random is null ? null : new RandomStates(windows.Count, random);
    }

    public IReadOnlyList<(long Start, long Length)> Windows { get; }

    /// <summary>The tensors of the states through which gradients flow.</summary>
    public static Tensor[] Differentiable(IEnumerable<MemoryState?> states) =>
        [.. states.SelectMany(state => state?.Tensors ?? []).Where(tensor => Describe.IsFloating(tensor.dtype))];

    /// <summary>Stores the current states as the beginning of a window.</summary>
    public void Keep(int window)
    {
        using var scope = NewDisposeScope();
        positions[window] = states.Position;
        randomStates?.Capture(window);
        for (var i = 0; i < memories.Length; i++)
        {
            if (states.Current[i] is not { } state)
            {
                continue;
            }

            memories[i] ??= (Room(state.Memory), Room(state.Normalizer));
            memories[i]!.Value.M.select(0, window).copy_(state.Memory);
            memories[i]!.Value.Z.select(0, window).copy_(state.Normalizer);
            isEmpty[window][i] = state.Matrix.IsEmpty;
            open[window][i] = state.Open;
            state.Open?.Hold();
            earlier[window][i] = state.Earlier;
            state.Earlier?.Hold();
        }

        Tensor Room(Tensor like) => empty([Windows.Count, .. Describe.Sizes(like)], like.dtype, like.device).DetachFromDisposeScope();
    }

    /// <summary>Stores the current states as the end of the last window.</summary>
    public void KeepEnd()
    {
        end = [.. states.Current.Select(state => state?.Detach())];
        endRandom = random is null ? null : RandomState.Capture(random, isRandom: true);
    }

    /// <summary>Moves the stream to the stored end, without a graph.</summary>
    public void RestoreEnd()
    {
        states.Set([.. end!.Select(state => state?.Share())]);
        endRandom?.Restore();
    }

    public void RestoreRandom(int window) => randomStates?.Restore(window);

    /// <summary>The states at the beginning of a window as leaves of a new graph.</summary>
    public LeafStates Leaves(int window)
    {
        using var scope = NewDisposeScope();
        return new([.. memories.Select((memory, i) => memory is var (m, z) && isEmpty[window][i] is { } isKnownEmpty
            ? new MemoryState(
                new MemoryMatrix(m.select(0, window).clone(), z.select(0, window).clone(), isKnownEmpty),
                open[window][i]?.Map(tensor => tensor.clone()), earlier[window][i]?.Map(tensor => tensor.clone()), positions[window])
            : null)]);
    }

    public void Dispose()
    {
        foreach (var memory in memories)
        {
            memory?.M.Dispose();
            memory?.Z.Dispose();
        }

        Array.ForEach(open, segments => Array.ForEach(segments, segment => segment?.Release()));
        Array.ForEach(earlier, segments => Array.ForEach(segments, segment => segment?.Release()));
        Array.ForEach(end ?? [], state => state?.Dispose());
        endRandom?.Dispose();
        randomStates?.Dispose();
    }
}

/// <summary>States whose tensors are leaves of a graph.</summary>
internal sealed class LeafStates : IDisposable
{
    private readonly MemoryState?[] states;

    public LeafStates(MemoryState?[] states)
    {
        this.states = states;
        Tensors = WindowBoundaries.Differentiable(states);
        Array.ForEach(Tensors, tensor => tensor.requires_grad_(true));
    }

    public Tensor[] Tensors { get; }

    public MemoryState?[] Share() => [.. states.Select(state => state?.Share())];

    public void Dispose() => Array.ForEach(states, state => state?.Dispose());
}
