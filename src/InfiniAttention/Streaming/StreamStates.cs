namespace InfiniAttention;

/// <summary>
/// The states of all layers of a model in one stream. Layers advance one after the other; the stream advances when all of
/// them have read the same tokens. A call that fails leaves it where it was.
/// </summary>
internal sealed class StreamStates : IDisposable
{
    private readonly (string Name, InfiniAttentionModule Layer)[] layers;
    private readonly Dictionary<InfiniAttentionModule, int> indices;
    private readonly MemoryState?[] committed;
    private readonly MemoryState?[] pending;
    private bool isInTransaction;
    private bool isInLayer;
    private bool isDisposed;

    public StreamStates(SegmentStreamer streamer, (string Name, InfiniAttentionModule Layer)[] layers)
    {
        (Streamer, this.layers) = (streamer, layers);
        indices = layers.Select((layer, index) => (layer.Layer, index)).ToDictionary(pair => pair.Layer, pair => pair.index);
        committed = new MemoryState?[layers.Length];
        pending = new MemoryState?[layers.Length];
    }

    public SegmentStreamer Streamer { get; }

    public IReadOnlyList<(string Name, InfiniAttentionModule Layer)> Layers => layers;

    public IReadOnlyList<MemoryState?> Current => committed;

    public long Position => committed[0]?.Position ?? 0;

    public long? Batch => committed[0]?.Batch;

    public long Bytes => committed.Sum(state => state?.Bytes ?? 0);

    public bool Holds(InfiniAttentionModule layer) => indices.ContainsKey(layer);

    /// <summary>The state that a layer continues from, before it runs.</summary>
    /// <param name="layer">A layer of the model.</param>
    /// <param name="isCall">Whether the streamer itself called the model.</param>
    public MemoryState? Enter(InfiniAttentionModule layer, bool isCall)
    {
        CheckAlive();
        if (isInLayer || (isInTransaction && !isCall))
        {
            throw InsideCall();
        }

        var i = indices[layer];
        if (pending[i] is not null)
        {
            var behind = layers.Where((_, j) => pending[j] is null).Select(entry => $"'{entry.Name}'").ToArray();
            throw new InvalidOperationException(
                $"The layer '{layers[i].Name}' ran again before the call of its model ended (layers that did not run yet: {(behind.Length == 0 ? "none" : string.Join(", ", behind))}). "
                    + "A stream needs a model that passes every token through each of its Infini-attention layers once; after a call that failed, begin a new activation.");
        }

        Convert(i);
        isInLayer = true;
        return committed[i];
    }

    /// <summary>Takes the state after a layer's tokens, or null if it failed.</summary>
    public void Exit(InfiniAttentionModule layer, MemoryState? after, bool isCall)
    {
        isInLayer = false;
        if (after is null)
        {
            return;
        }

        if (isDisposed)
        {
            after.Dispose();
            CheckAlive();
        }

        pending[indices[layer]] = after;
        if (!isCall && Array.TrueForAll(pending, state => state?.Position == after.Position))
        {
            Commit();
        }
    }

    /// <summary>Discards the states of layers that are ahead of others.</summary>
    public void DropPending()
    {
        for (var i = 0; i < pending.Length; i++)
        {
            pending[i]?.Dispose();
            pending[i] = null;
        }
    }

    /// <summary>Commits what the layers read in a call of the model, or throws if they did not all read <paramref name="tokens"/> tokens.</summary>
    public void CommitCall(long tokens)
    {
        CheckAlive();
        if (!Array.TrueForAll(pending, state => state is not null && state.Position == Position + tokens))
        {
            var found = string.Join(", ", layers.Select((layer, i) => $"'{layer.Name}' {(pending[i]?.Position ?? Position) - Position}"));
            throw new InvalidOperationException(
                $"A stream needs a model that passes every token through each of its Infini-attention layers once; of {tokens} tokens the layers read: {found}.");
        }

        Commit();
    }

    /// <summary>Begins to advance the stream. Unless the transaction is completed, the stream returns to where it was.</summary>
    public Transaction Begin()
    {
        CheckOutsideCall();
        return new(this);
    }

    /// <summary>Throws during a call that advances the stream, and between the layers of a model.</summary>
    public void CheckChangeable()
    {
        CheckOutsideCall();
        CheckBetweenCalls();
    }

    /// <summary>Throws between the layers of a model.</summary>
    public void CheckBetweenCalls()
    {
        if (Array.Exists(pending, state => state is not null))
        {
            throw new InvalidOperationException("The stream is between its model's layers: some have read tokens that others have not.");
        }
    }

    /// <summary>Applies <paramref name="map"/> to the state of every layer; if it fails for one, none is changed.</summary>
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
    /// <exception cref="ObjectDisposedException">The stream was disposed of; the given states are then disposed of too.</exception>
    public void Set(IReadOnlyList<MemoryState?> states)
    {
        if (isDisposed)
        {
            foreach (var state in states)
            {
                state?.Dispose();
            }

            CheckAlive();
        }

        Replace(states);
    }

    /// <summary>Converts the states of layers whose type changed after their last tokens.</summary>
    public void FollowModel()
    {
        for (var i = 0; i < committed.Length; i++)
        {
            Convert(i);
        }
    }

    /// <summary>Frees the states; the stream is then empty.</summary>
    public void Clear() => Replace(new MemoryState?[committed.Length]);

    public void Dispose()
    {
        isDisposed = true;
        Clear();
    }

    private static InvalidOperationException InsideCall() =>
        new("The stream is in the middle of a call: its model and the code that the call runs must not continue or change it.");

    /// <summary>Throws if the stream was disposed of, possibly by code that its own call runs.</summary>
    public void CheckAlive() => ObjectDisposedException.ThrowIf(isDisposed, Streamer);

    private void CheckOutsideCall()
    {
        CheckAlive();
        if (isInTransaction || isInLayer)
        {
            throw InsideCall();
        }
    }

    private void Commit()
    {
        for (var i = 0; i < committed.Length; i++)
        {
            committed[i]?.Dispose();
            (committed[i], pending[i]) = (pending[i], null);
        }
    }

    private void Replace(IReadOnlyList<MemoryState?> states)
    {
        DropPending();
        for (var i = 0; i < committed.Length; i++)
        {
            committed[i]?.Dispose();
            committed[i] = states[i];
        }
    }

    /// <summary>Converts a layer's state if the layer's type changed after its last tokens.</summary>
    private void Convert(int i)
    {
        var type = layers[i].Layer.Gate.dtype;
        if (committed[i] is not { } state || ((state.LayerType ?? type) == type && state.Memory.dtype == MemoryState.TypeFor(type)))
        {
            return;
        }

        committed[i] = state.To(type);
        state.Dispose();
    }

    /// <summary>A call that advances the stream as a whole or not at all.</summary>
    internal sealed class Transaction : IDisposable
    {
        private readonly StreamStates states;
        private readonly MemoryState?[] before;
        private bool isComplete;

        public Transaction(StreamStates states)
        {
            this.states = states;
            before = [.. states.committed.Select(state => state?.Share())];
            states.isInTransaction = true;
        }

        /// <summary>Keeps the new states.</summary>
        public void Complete() => isComplete = true;

        public void Dispose()
        {
            states.isInTransaction = false;
            if (isComplete || states.isDisposed)
            {
                Array.ForEach(before, state => state?.Dispose());
            }
            else
            {
                states.Replace(before);
            }
        }
    }
}
