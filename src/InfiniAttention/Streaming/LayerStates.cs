using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// The states of all layers of a model in one stream. Layers advance one after the other; the stream advances when all of
/// them have consumed the same tokens, and a call that fails half-way leaves it where it was.
/// </summary>
internal sealed class LayerStates : IDisposable
{
    private readonly (string Name, InfiniAttentionModule Layer)[] layers;
    private readonly Dictionary<InfiniAttentionModule, int> indices;
    private readonly MemoryState?[] committed;
    private readonly MemoryState?[] pending;
    private MemoryState?[]? checkpoint;

    public LayerStates((string Name, InfiniAttentionModule Layer)[] layers)
    {
        this.layers = layers;
        indices = layers.Select((layer, index) => (layer.Layer, index)).ToDictionary(pair => pair.Layer, pair => pair.index);
        committed = new MemoryState?[layers.Length];
        pending = new MemoryState?[layers.Length];
    }

    public IReadOnlyList<(string Name, InfiniAttentionModule Layer)> Layers => layers;

    public IReadOnlyList<MemoryState?> Current => committed;

    public long Position => committed[0]?.Position ?? 0;

    public long? Batch => committed[0]?.Batch;

    public long Bytes => committed.Sum(state => state?.Bytes ?? 0);

    public bool IsMidway => Array.Exists(pending, state => state is not null);

    public bool Holds(InfiniAttentionModule layer) => indices.ContainsKey(layer);

    public MemoryState? Enter(InfiniAttentionModule layer) => pending[indices[layer]] ?? committed[indices[layer]];

    public void Leave(InfiniAttentionModule layer, MemoryState after)
    {
        var i = indices[layer];
        pending[i]?.Dispose();
        pending[i] = after;
        if (Array.TrueForAll(pending, state => state is not null) && Array.TrueForAll(pending, state => state!.Position == pending[0]!.Position))
        {
            for (var j = 0; j < pending.Length; j++)
            {
                Replace(j, pending[j]);
                pending[j] = null;
            }
        }
    }

    /// <summary>Drops what only some of the layers have consumed.</summary>
    public void DropPending()
    {
        for (var i = 0; i < pending.Length; i++)
        {
            pending[i]?.Dispose();
            pending[i] = null;
        }
    }

    /// <summary>Throws where a call of the model did not take every layer <paramref name="tokens"/> tokens on from <paramref name="position"/>.</summary>
    public void RequireAdvance(long position, long tokens)
    {
        if (!IsMidway && Position == position + tokens)
        {
            return;
        }

        var found = string.Join(", ", layers.Select((layer, i) => $"'{layer.Name}' {(pending[i]?.Position ?? committed[i]?.Position ?? 0) - position}"));
        throw new InvalidOperationException(
            $"A stream needs a model that passes each of its Infini-attention layers every token once; of {tokens} tokens the layers took: {found}.");
    }

    /// <summary>Does something that advances the stream. If it throws, the stream is as it was.</summary>
    public T Atomically<T>(Func<T> action)
    {
        CheckOutsideCall();
        checkpoint = [.. committed.Select(state => state?.Share())];
        try
        {
            var result = action();
            Complete();
            return result;
        }
        finally
        {
            RollBack();
        }
    }

    /// <summary>Throws in the middle of a call that advances the stream.</summary>
    public void CheckOutsideCall()
    {
        if (checkpoint is not null)
        {
            throw InsideCall();
        }
    }

    /// <summary>Replaces the state of every layer by what <paramref name="map"/> makes of it, or of none if one fails.</summary>
    public void Map(Func<MemoryState, MemoryState> map)
    {
        var mapped = new MemoryState?[committed.Length];
        try
        {
            for (var i = 0; i < committed.Length; i++)
            {
                mapped[i] = committed[i] is { } state ? map(state) : null;
            }
        }
        catch
        {
            Array.ForEach(mapped, state => state?.Dispose());
            throw;
        }

        Set(mapped);
    }

    /// <summary>Takes over the given states, one for each layer.</summary>
    public void Set(IReadOnlyList<MemoryState?> states)
    {
        DropPending();
        for (var i = 0; i < committed.Length; i++)
        {
            Replace(i, states[i]);
        }
    }

    public void Dispose()
    {
        DropPending();
        for (var i = 0; i < committed.Length; i++)
        {
            committed[i]?.Dispose();
            committed[i] = null;
        }
    }

    private static InvalidOperationException InsideCall() =>
        new("The stream is in the middle of a call: neither its model nor what the call calls may continue or change it.");

    private void Complete()
    {
        var kept = checkpoint!;
        checkpoint = null;
        for (var i = 0; i < committed.Length; i++)
        {
            kept[i]?.Dispose();
        }
    }

    /// <summary>Returns to the checkpoint, if there is one still.</summary>
    private void RollBack()
    {
        if (checkpoint is not { } kept)
        {
            return;
        }

        checkpoint = null;
        DropPending();
        for (var i = 0; i < committed.Length; i++)
        {
            committed[i]?.Dispose();
            committed[i] = kept[i];
        }
    }

    private void Replace(int i, MemoryState? state)
    {
        committed[i]?.Dispose();
        committed[i] = state;
    }
}
