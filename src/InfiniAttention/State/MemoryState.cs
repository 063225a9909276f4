using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// What one layer keeps from call to call: its memory and the tokens of its open segment. Its size does not depend on how many
/// tokens were consumed.
/// </summary>
/// <remarks>
/// B batch, G key/value heads, K key width, V value width. A state is immutable and owns its tensors, outside any dispose
/// scope: dispose of it when it is no longer needed. Gradients flow through it until <see cref="Detach"/>.
/// </remarks>
public sealed class MemoryState : IDisposable
{
    private readonly MemoryMatrix matrix;
    private readonly OpenSegment? open;
    private readonly EarlierSegment? earlier;
    private int isDisposed;

    /// <summary>Takes over one reference to each argument.</summary>
    internal MemoryState(MemoryMatrix matrix, OpenSegment? open, EarlierSegment? earlier, long position)
    {
        (this.matrix, this.open, this.earlier, Position) = (matrix, open, earlier, position);
    }

    /// <summary>A state with a given memory and no open segment.</summary>
    /// <param name="memory">M, (B, G, K, V), B at least 1, float32 or float64; copied.</param>
    /// <param name="normalizer">z, (B, G, K), of the same type, on the same device, not negative; 0 for a row to which nothing was written. Copied.</param>
    /// <param name="position">
    /// Tokens consumed; a multiple of the segment length of the layer that continues from the state, at most 2^62. The memory is read at every position, 0 included.
    /// </param>
    /// <exception cref="ArgumentException">A tensor has another rank, shape, type or device, z is negative, or the position is out of range.</exception>
    public MemoryState(Tensor memory, Tensor normalizer, long position)
        : this(Checked(memory, normalizer, position), null, null, position)
    {
    }

    /// <summary>The associative memory M, (B, G, K, V), float32 (float64 for a float64 layer). It belongs to the state: do not dispose of it.</summary>
    public Tensor Memory => matrix.M;

    /// <summary>The normaliser z, (B, G, K), of the same type. A row to which nothing was written has z = 0. It belongs to the state: do not dispose of it.</summary>
    public Tensor Normalizer => matrix.Z;

    /// <summary>Tokens consumed so far.</summary>
    public long Position { get; }

    /// <summary>Bytes held: M, z, the open segment and, if the local attention sees it, the segment before.</summary>
    public long Bytes => Tensors.Sum(tensor => tensor.NumberOfElements * tensor.ElementSize);

    /// <summary>The type of M and z in a layer of the given type.</summary>
    internal static ScalarType TypeFor(ScalarType layer) => layer == ScalarType.Float64 ? ScalarType.Float64 : ScalarType.Float32;

    /// <summary>The type of the layer whose tokens the state holds; null if it holds none.</summary>
    internal ScalarType? LayerType => open?.Type ?? earlier?.Keys.dtype;

    internal MemoryMatrix Matrix => matrix;

    internal OpenSegment? Open => open;

    /// <summary>The segment before the open one; null if the local attention does not see it, or there is none.</summary>
    internal EarlierSegment? Earlier => earlier;

    internal long Batch => Memory.size(0);

    internal IEnumerable<Tensor> Tensors => Holdings.SelectMany(held => held.Tensors);

    private IEnumerable<SharedTensors> Holdings => new SharedTensors?[] { matrix, open, earlier }.OfType<SharedTensors>();

    /// <summary>A memory of shape (B, G, K, V) to which nothing was written.</summary>
    internal static MemoryState Empty(long[] shape, ScalarType type, Device device, long position = 0) =>
        new(new MemoryMatrix(zeros(shape, type, device), zeros(shape[..3], type, device), isEmpty: true), null, null, position);

    /// <summary>The same state for another owner.</summary>
    internal MemoryState Share()
    {
        ThrowIfDisposed();
        matrix.Hold();
        open?.Hold();
        earlier?.Hold();
        return new(matrix, open, earlier, Position);
    }

    /// <summary>
    /// The state after further tokens: with the memory after them (null if unchanged), the open segment, and the segment that ended with them
    /// and stays in view (null if unchanged).
    /// </summary>
    internal MemoryState Next((Tensor M, Tensor Z)? after, long tokens, OpenSegment? nowOpen, EarlierSegment? ended)
    {
        if (after is null)
        {
            matrix.Hold();
        }

        if (ended is null)
        {
            earlier?.Hold();
        }

        nowOpen?.Hold();
        return new(after is var (m, z) ? new(m, z) : matrix, nowOpen, ended ?? earlier, Position + tokens);
    }

    /// <summary>An empty state at a position, whose graph leads to this one.</summary>
    internal MemoryState Cleared(long position)
    {
        ThrowIfDisposed();
        using var scope = NewDisposeScope();
        var all = ones([1], ScalarType.Bool, Memory.device);
        return new(new MemoryMatrix(Memory.masked_fill(all, Scalars.Zero), Normalizer.masked_fill(all, Scalars.Zero)), null, null, position);
    }

    /// <summary>The same state with another segment in view. Takes over one reference to it.</summary>
    internal MemoryState Behind(EarlierSegment other)
    {
        matrix.Hold();
        open?.Hold();
        return new(matrix, open, other, Position);
    }

    /// <summary>The same state detached from its graph: back-propagation stops here. The tensors share their storage.</summary>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState Detach() => Map(tensor => tensor.detach());

    /// <summary>An independent copy. Gradients flow through it.</summary>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState Clone() => Map(tensor => tensor.clone());

    /// <summary>The state of the given rows, in the given order; rows may be repeated, dropped and permuted, as in a beam search.</summary>
    /// <param name="indices">int64, (B'), each in [0, B), on the state's device.</param>
    /// <exception cref="ArgumentException">The indices have another shape, type or device, are empty, or are out of range.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState SelectRows(Tensor indices)
    {
        ThrowIfDisposed();
        StateRows.CheckIndices(indices, Batch, Memory.device);
        return Map(tensor => tensor.index_select(0, indices));
    }

    /// <summary>The state with the given rows started afresh, as if a new document began at their next token.</summary>
    /// <param name="rows">bool, (B), on the state's device: true for a row to reset.</param>
    /// <exception cref="ArgumentException">The mask has another shape, type or device.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState ResetRows(Tensor rows)
    {
        ThrowIfDisposed();
        StateRows.CheckMask(rows, Batch, Memory.device);
        return Made(() => new(
            new MemoryMatrix(Memory.masked_fill(rows.view(-1, 1, 1, 1), Scalars.Zero), Normalizer.masked_fill(rows.view(-1, 1, 1), Scalars.Zero), matrix.IsEmpty),
            open?.Forget(rows),
            earlier?.Forget(rows),
            Position));
    }

    /// <summary>A copy on another device.</summary>
    /// <param name="device">The target device.</param>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return Map(tensor => tensor.to(device, copy: true));
    }

    /// <summary>A copy for the same layer converted to another type: the open segment in that type, M and z in the memory's type for it.</summary>
    /// <param name="type">float32, float64, bfloat16 or float16.</param>
    /// <exception cref="ArgumentException">The type is not floating point.</exception>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public MemoryState To(ScalarType type)
    {
        if (!Describe.IsFloating(type))
        {
            throw new ArgumentException($"type is {type}; it must be Float32, Float64, BFloat16 or Float16.", nameof(type));
        }

        ThrowIfDisposed();
        return Made(() => new(
            matrix.Map(tensor => tensor.to(TypeFor(type), copy: true)),
            open?.To(type, TypeFor(type)),
            earlier?.To(type),
            Position));
    }

    /// <summary>Saves the state as a safetensors file. A reader of the path sees the complete old file or the complete new one.</summary>
    /// <param name="path">The file; an existing one is replaced.</param>
    /// <exception cref="ObjectDisposedException">The state was disposed of.</exception>
    public void Save(string path)
    {
        ThrowIfDisposed();
        MemoryStateFile.Save(this, path);
    }

    /// <summary>Reads a state that <see cref="Save"/> wrote.</summary>
    /// <param name="path">The file.</param>
    /// <param name="device">The device of the state; default: the CPU.</param>
    /// <exception cref="InvalidDataException">The file is truncated, altered, of another version or of another kind.</exception>
    public static MemoryState Load(string path, Device? device = null) => MemoryStateFile.Load(path, device ?? CPU);

    /// <summary>Frees the tensors that no other state holds.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref isDisposed, 1) == 0)
        {
            matrix.Release();
            open?.Release();
            earlier?.Release();
        }
    }

    internal void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(isDisposed != 0, this);

    /// <summary>Applies <paramref name="map"/> to each tensor, whose first dimension is that of the rows.</summary>
    internal MemoryState Map(Func<Tensor, Tensor> map)
    {
        ThrowIfDisposed();
        return Made(() => new(matrix.Map(map), open?.Map(map), earlier?.Map(map), Position));
    }

    private static MemoryState Made(Func<MemoryState> make)
    {
        using var normal = new NormalTensors();
        using var scope = NewDisposeScope();
        return make();
    }

    private static MemoryMatrix Checked(Tensor memory, Tensor normalizer, long position)
    {
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(normalizer);
        ArgumentOutOfRangeException.ThrowIfNegative(position);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(position, StateSchema.MaximumPosition);
        if (memory.dim() != 4 || memory.size(0) < 1 || memory.dtype is not (ScalarType.Float32 or ScalarType.Float64))
        {
            throw new ArgumentException($"memory is {memory.dtype} of shape {Describe.Shape(memory)}; it must be Float32 or Float64 of shape (B, G, K, V) with at least one row.", nameof(memory));
        }

        if (!Describe.HasShape(normalizer, memory.size(0), memory.size(1), memory.size(2)) || normalizer.dtype != memory.dtype || !Describe.SameDevice(normalizer, memory))
        {
            throw new ArgumentException(
                $"normalizer is {normalizer.dtype} of shape {Describe.Shape(normalizer)} on {normalizer.device}; "
                    + $"it must be {memory.dtype} of shape (B, G, K) = ({memory.size(0)}, {memory.size(1)}, {memory.size(2)}) on {memory.device}, like memory.",
                nameof(normalizer));
        }

        using var scope = NewDisposeScope();
        return Describe.AllTrue(StateSchema.CanBeNormalizer(normalizer)) ? new(memory.clone(), normalizer.clone())
            : throw new ArgumentException("normalizer holds negative numbers; it is a sum of sigma(K), whose numbers are positive.", nameof(normalizer));
    }
}
