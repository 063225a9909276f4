using static TorchSharp.torch;

namespace InfiniAttention;

/// <content>Operations on a stream between its calls.</content>
public sealed partial class SegmentStreamer
{
    /// <summary>Cuts the graph: no gradient flows past this point of the stream.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Detach() => Change(state => state.Detach());

    /// <summary>Clears the stream: the next call begins a new one, of any batch size.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Reset()
    {
        states.CheckChangeable();
        states.Clear();
    }

    /// <summary>Starts the given rows afresh, as if a new document began at their next token. Before the first token it does nothing.</summary>
    /// <param name="rows">bool, (B), on the stream's device: true for a row to reset.</param>
    /// <exception cref="ArgumentException">The mask has another shape, type or device.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void ResetRows(Tensor rows) => Change(state => state.ResetRows(rows));

    /// <summary>Keeps the given rows, in the given order; rows may be repeated, dropped and permuted. Before the first token it does nothing.</summary>
    /// <param name="indices">int64, (B'), each in [0, B), on the stream's device.</param>
    /// <exception cref="ArgumentException">The indices have another shape, type or device, are empty, or are out of range.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void SelectRows(Tensor indices) => Change(state => state.SelectRows(indices));

    /// <summary>Moves the stream to another device, for a model that was moved there.</summary>
    /// <param name="device">The target device.</param>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        Change(state => state.To(device));
    }

    /// <summary>Converts the stream to another type. After the model was converted, the next call does this automatically.</summary>
    /// <param name="type">float32, float64, bfloat16 or float16.</param>
    /// <exception cref="ArgumentException">The type is not floating point.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void To(ScalarType type) => Change(state => state.To(type));

    /// <summary>An independent copy of the stream at this point, through the same model.</summary>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public SegmentStreamer Fork()
    {
        CheckSettled();
        var fork = new SegmentStreamer(model, sharing) { WindowTokens = WindowTokens };
        fork.states.Set([.. states.Current.Select(state => state?.Clone())]);
        return fork;
    }

    /// <summary>Saves the stream as a safetensors file. A reader of the path sees the complete old file or the complete new one.</summary>
    /// <param name="path">The file; an existing one is replaced.</param>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Save(string path)
    {
        CheckSettled();
        states.FollowModel();
        StreamFile.Save(states, path);
    }

    /// <summary>Writes the stream, as a safetensors file.</summary>
    /// <param name="stream">The stream to write to.</param>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Save(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        CheckSettled();
        states.FollowModel();
        StreamFile.Save(states, stream);
    }

    /// <summary>Continues from a saved stream.</summary>
    /// <param name="path">A file written by <see cref="Save(string)"/> with a model that has the same layers.</param>
    /// <exception cref="InvalidDataException">The file is truncated, altered, of a newer version, or of another model; the stream is as it was.</exception>
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
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
    /// <exception cref="InvalidOperationException">A call of the model is in progress.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public void Load(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        states.CheckChangeable();
        states.Set(StreamFile.Load(states, stream));
    }

    /// <summary>The current gates, memories and bytes of every layer.</summary>
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

    /// <summary>Throws if the streamer was disposed of, or if only some of its model's layers have read the last tokens.</summary>
    private void CheckSettled()
    {
        states.CheckAlive();
        states.CheckBetweenCalls();
    }
}
