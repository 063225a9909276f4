using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// What one layer carries from a call to the next: the compressive memory (M, z) and the open segment's keys and values.
/// Its size does not depend on how many tokens were consumed.
/// </summary>
/// <remarks>
/// B batch, G key/value heads, K key width, V value width. A state is immutable and owns its tensors, outside any dispose
/// scope: dispose of it when it is no longer needed. Gradients flow through it until <see cref="Detach"/>.
/// </remarks>
public sealed class MemoryState : IDisposable
{
    private bool disposed;

    internal MemoryState(Tensor memory, Tensor normalizer, long position, SegmentTokens? open)
    {
        (Memory, Normalizer, Position, Open) = (memory, normalizer, position, open);
        Tensors = open is null ? [memory, normalizer] : [memory, normalizer, .. open.Tensors];
        foreach (var tensor in Tensors)
        {
            tensor.DetachFromDisposeScope();
        }
    }

    /// <summary>The associative memory M, (B, G, K, V), float32 (float64 for a float64 layer). It belongs to the state: do not dispose of it.</summary>
    public Tensor Memory { get; }

    /// <summary>The normaliser z, (B, G, K), of the same type. A row to which nothing was written has z = 0. It belongs to the state: do not dispose of it.</summary>
    public Tensor Normalizer { get; }

    /// <summary>Tokens consumed so far.</summary>
    public long Position { get; }

    /// <summary>Bytes held: M, z and the open segment.</summary>
    public long Bytes => Tensors.Sum(tensor => tensor.NumberOfElements * tensor.ElementSize);

    /// <summary>The type of M and z in a layer of the given type.</summary>
    internal static ScalarType TypeFor(ScalarType layer) => layer == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    internal SegmentTokens? Open { get; }

    internal long Batch => Memory.size(0);

    internal Tensor[] Tensors { get; }

    /// <summary>The same state without the graph that led to it: back-propagation stops here. The tensors share their storage.</summary>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState Detach() => Map((tensor, _) => tensor.detach());

    /// <summary>An independent copy. Gradients flow through it.</summary>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState Clone() => Map((tensor, _) => tensor.clone());

    /// <summary>The state of the given rows, in the given order; rows may repeat, drop and permute, as a beam search needs.</summary>
    /// <param name="indices">int64, (B'), each in [0, B), on the state's device.</param>
    /// <exception cref="ArgumentException">The indices have another shape, type or device, are none at all, or are out of range.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState SelectRows(Tensor indices)
    {
        ThrowIfDisposed();
        CheckIndices(indices, Batch, Memory.device);
        return Map((tensor, dimension) => tensor.index_select(dimension, indices));
    }

    /// <summary>The state with the given rows started afresh, as if a new document began at their next token.</summary>
    /// <param name="rows">bool, (B), on the state's device: true for a row to reset.</param>
    /// <exception cref="ArgumentException">The mask has another shape, type or device.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState ResetRows(Tensor rows)
    {
        ThrowIfDisposed();
        CheckRows(rows, Batch, Memory.device);
        using var scope = NewDisposeScope();
        return new(
            Memory.masked_fill(rows.view(-1, 1, 1, 1), Scalars.Zero),
            Normalizer.masked_fill(rows.view(-1, 1, 1), Scalars.Zero),
            Position,
            Open?.Forget(rows));
    }

    /// <summary>A copy on another device.</summary>
    /// <param name="device">Where to.</param>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Map((tensor, _) => tensor.to(device, copy: true));
    }

    /// <summary>Frees the tensors.</summary>
    public void Dispose() => DisposeExcept(null, null);

    /// <summary>Frees the tensors that neither of two other states holds as well.</summary>
    internal void DisposeExcept(MemoryState? first, MemoryState? second)
    {
        if (disposed || ReferenceEquals(this, first) || ReferenceEquals(this, second))
        {
            return;
        }

        disposed = true;
        foreach (var tensor in Tensors)
        {
            if (first?.Holds(tensor) != true && second?.Holds(tensor) != true)
            {
                tensor.Dispose();
            }
        }
    }

    /// <summary>Whether this very tensor object is one of the state's.</summary>
    internal bool Holds(Tensor tensor) => Describe.Holds(Tensors, tensor);

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(disposed, this);

    internal MemoryState Map(Func<Tensor, long, Tensor> map)
    {
        ThrowIfDisposed();
        // Normal tensors even in inference mode: the open segment's are appended to in place, also after that mode.
        using var noInference = is_inference_mode_enabled() ? inference_mode(false) : null;
        using var noGrad = noInference is null ? null : no_grad();
        using var scope = NewDisposeScope();
        return new(map(Memory, 0), map(Normalizer, 0), Position, Open?.Map(map));
    }

    internal static void CheckRows(Tensor rows, long batch, Device device)
    {
        ArgumentNullException.ThrowIfNull(rows);
        if (rows.dtype != ScalarType.Bool || rows.dim() != 1 || rows.shape[0] != batch || !Describe.Same(rows.device, device))
        {
            throw new ArgumentException(
                $"rows is {rows.dtype} of shape {Describe.Shape(rows)} on {rows.device}; it must be Bool of shape (B) = ({batch}) on {device}.", nameof(rows));
        }
    }

    internal static void CheckIndices(Tensor indices, long batch, Device device)
    {
        ArgumentNullException.ThrowIfNull(indices);
        if (indices.dtype != ScalarType.Int64 || indices.dim() != 1 || indices.shape[0] < 1 || !Describe.Same(indices.device, device))
        {
            throw new ArgumentException(
                $"indices is {indices.dtype} of shape {Describe.Shape(indices)} on {indices.device}; it must be Int64 of shape (B') with at least one row, on {device}.",
                nameof(indices));
        }

        using var scope = NewDisposeScope();
        var (least, most) = (indices.min().item<long>(), indices.max().item<long>());
        if (least < 0 || most >= batch)
        {
            throw new ArgumentException($"indices holds {(least < 0 ? least : most)}; each index must be at least 0 and less than the batch, {batch}.", nameof(indices));
        }
    }
}
