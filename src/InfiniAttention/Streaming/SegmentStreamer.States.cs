using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>What can be done with a stream between its calls.</content>
public sealed partial class SegmentStreamer
{
    /// <summary>Cuts the graph: no gradient flows past this point of the stream.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Detach() => Change(state => state.Detach());

    /// <summary>Forgets everything: the next call begins a new stream, of any batch size.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Reset()
    {
        states.CheckChangeable();
        states.Clear();
    }

    /// <summary>Starts the given rows afresh, as if a new document began at their next token. Before the first token it does nothing.</summary>
    /// <param name="rows">bool, (B), on the stream's device: true for a row to reset.</param>
    /// <exception cref="ArgumentException">The mask has another shape, type or device.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void ResetRows(Tensor rows) => Change(state => state.ResetRows(rows));

    /// <summary>Keeps the given rows, in the given order; rows may repeat, drop and permute. Before the first token it does nothing.</summary>
    /// <param name="indices">int64, (B'), each in [0, B), on the stream's device.</param>
    /// <exception cref="ArgumentException">The indices have another shape, type or device, are none at all, or are out of range.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void SelectRows(Tensor indices) => Change(state => state.SelectRows(indices));

    /// <summary>Moves the stream to another device, as one moves its model.</summary>
    /// <param name="device">Where to.</param>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        Change(state => state.To(device));
    }

    /// <summary>Converts the stream to another type, as one converts its model. A call after the model was converted does it by itself.</summary>
    /// <param name="type">float32, float64, bfloat16 or float16.</param>
    /// <exception cref="ArgumentException">The type is not floating point.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void To(ScalarType type) => Change(state => state.To(type));

    /// <summary>An independent copy of the stream from here, through the same model.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public SegmentStreamer Fork()
    {
        CheckSettled();
        var fork = new SegmentStreamer(model) { WindowTokens = WindowTokens };
        fork.states.Set([.. states.Current.Select(state => state?.Clone())]);
        return fork;
    }

    /// <summary>Saves the stream as a safetensors file. A reader of the path sees the old file or the new one, whole.</summary>
    /// <param name="path">The file; an existing one is replaced.</param>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Save(string path)
    {
        CheckSettled();
        states.FollowModel();
        StreamFile.Save(states, path);
    }

    /// <summary>Writes the stream, as a safetensors file.</summary>
    /// <param name="stream">Where to write.</param>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Save(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckSettled();
        states.FollowModel();
        StreamFile.Save(states, stream);
    }

    /// <summary>Continues from a saved stream.</summary>
    /// <param name="path">A file written by <see cref="Save(string)"/>, through a model with the same layers.</param>
    /// <exception cref="InvalidDataException">The file is truncated, altered, of a newer version, or of another model; the stream is as it was.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Load(string path)
    {
        states.CheckChangeable();
        using var stream = File.OpenRead(path);
        states.Set(StreamFile.Load(states, stream));
    }

    /// <summary>Continues from a saved stream.</summary>
    /// <param name="stream">What <see cref="Save(Stream)"/> wrote; it is read to its end.</param>
    /// <exception cref="InvalidDataException">The data is truncated, altered, of a newer version, or of another model; the stream is as it was.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is under way.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Load(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        states.CheckChangeable();
        states.Set(StreamFile.Load(states, stream));
    }

    /// <summary>Gates, memories and bytes of every layer, as they are now.</summary>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public IReadOnlyList<LayerReport> Report()
    {
        states.CheckAlive();
        return [.. states.Layers.Select((entry, i) => StreamReports.Of(entry.Name, entry.Layer, states.Current[i]))];
    }

    private void Change(Func<MemoryState, MemoryState> map)
    {
        states.CheckChangeable();
        states.Map(map);
    }

    /// <summary>Throws if the streamer was disposed of, or stands between its model's layers.</summary>
    private void CheckSettled()
    {
        states.CheckAlive();
        states.CheckBetweenCalls();
    }
}
