using System.Collections;
using TorchSharp.Subset;

namespace TorchSharp.Utils;

/// <summary>The elements of a tensor on the CPU, read and written where they are.</summary>
public sealed unsafe class TensorAccessor<T> : IDisposable, IEnumerable<T> where T : unmanaged
{
    private readonly T* data;
    private torch.Tensor tensor;

    internal TensorAccessor(torch.Tensor tensor)
    {
        if (tensor.device_type != DeviceType.CPU)
            throw new InvalidOperationException("Reading data from non-CPU memory is not supported. Move or copy the tensor to the cpu before reading.");
        var address = Native.tss_data(tensor.Handle);
        if (address == IntPtr.Zero && tensor.numel() > 0) throw Native.Error();
        data = (T*)address;
        this.tensor = tensor;
    }

    public long Count => tensor?.numel() ?? 0;

    public T this[params long[] indices] {
        get => data[indices.Length == 1 ? Offset(Checked(indices[0])) : Offset(indices)];
        set => data[indices.Length == 1 ? Offset(Checked(indices[0])) : Offset(indices)] = value;
    }

    public T[] ToArray()
    {
        var result = new T[Count];
        CopyTo(result);
        return result;
    }

    public Array ToNDArray()
    {
        if (tensor.ndim == 0) return ToArray();
        var result = Array.CreateInstance(typeof(T), tensor.shape);
        var flat = ToArray();
        Buffer.BlockCopy(flat, 0, result, 0, Buffer.ByteLength(flat));
        return result;
    }

    public void CopyTo(T[] array, int arrayIndex = 0, long tensorIndex = 0) => CopyTo(array.AsSpan(), arrayIndex, tensorIndex);

    public void CopyTo(Span<T> array, int arrayIndex = 0, long tensorIndex = 0)
    {
        var count = (int)Math.Min(array.Length - arrayIndex, Count - tensorIndex);
        if (tensor.is_contiguous()) new Span<T>(data + tensorIndex, count).CopyTo(array[arrayIndex..]);
        else for (var i = 0; i < count; i++) array[arrayIndex + i] = data[Offset(tensorIndex + i)];
    }

    public void CopyFrom(T[] array, int arrayIndex = 0, long tensorIndex = 0) => CopyFrom((ReadOnlySpan<T>)array, arrayIndex, tensorIndex);

    public void CopyFrom(ReadOnlySpan<T> array, int arrayIndex = 0, long tensorIndex = 0)
    {
        var count = (int)Math.Min(array.Length - arrayIndex, Count - tensorIndex);
        for (var i = 0; i < count; i++) data[Offset(tensorIndex + i)] = array[arrayIndex + i];
    }

    public IEnumerator<T> GetEnumerator()
    {
        for (var i = 0L; i < Count; i++) yield return this[i];
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    public void Dispose() => tensor = null!;

    private long Checked(long index) =>
        index >= Count ? throw new IndexOutOfRangeException()
        : index < 0 ? throw new ArgumentOutOfRangeException(nameof(index), $"{index} in a collection of {Count} elements.")
        : index;

    /// <summary>Of the element at this place in row-major order.</summary>
    private long Offset(long index)
    {
        if (tensor.is_contiguous()) return index;
        long[] shape = tensor.shape, strides = tensor.stride();
        var offset = 0L;
        for (var dim = shape.Length - 1; dim >= 0; dim--) {
            index = Math.DivRem(index, shape[dim], out var position);
            offset += position * strides[dim];
        }
        return offset;
    }

    private long Offset(long[] indices)
    {
        long[] shape = tensor.shape, strides = tensor.stride();
        var offset = 0L;
        for (var dim = 0; dim < shape.Length; dim++) {
            if (indices[dim] < 0 || indices[dim] >= shape[dim]) throw new IndexOutOfRangeException($"{indices[dim]} >= {shape[dim]} in dimension {dim}.");
            offset += indices[dim] * strides[dim];
        }
        return offset;
    }
}
