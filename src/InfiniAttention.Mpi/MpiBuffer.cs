using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>The memory of a tensor for MPI: its own on a CPU, a copy in the host's memory for another device.</summary>
internal sealed class MpiBuffer
{
    /// <summary>The most bytes of one call of MPI, whose counts are 32 bits.</summary>
    private const long PieceBytes = 1 << 30;

    private readonly Tensor tensor;
    private readonly Tensor host;
    private readonly int elementBytes;

    private MpiBuffer(Tensor tensor, string name, int type, int elementBytes)
    {
        ArgumentNullException.ThrowIfNull(tensor, name);
        if (!tensor.is_contiguous())
        {
            throw new ArgumentException($"{name} is not contiguous; a group exchanges contiguous tensors.", name);
        }

        (this.tensor, Type, this.elementBytes) = (tensor.detach(), type, elementBytes);
        host = this.tensor.device_type == DeviceType.CPU ? this.tensor : this.tensor.cpu();
    }

    /// <summary>The elements as MPI's type.</summary>
    public int Type { get; }

    public long Bytes => host.numel() * host.ElementSize;

    /// <summary>A tensor whose numbers MPI adds.</summary>
    public static MpiBuffer OfNumbers(Tensor tensor, string name) => tensor?.dtype switch
    {
        null => throw new ArgumentNullException(name),
        ScalarType.Float32 => new(tensor, name, MPI.Unsafe.MPI_FLOAT, sizeof(float)),
        ScalarType.Float64 => new(tensor, name, MPI.Unsafe.MPI_DOUBLE, sizeof(double)),
        var type => throw new ArgumentException($"{name} has type {type}; a group adds Float32 and Float64.", name),
    };

    /// <summary>A tensor of any type that MPI copies.</summary>
    public static MpiBuffer OfBytes(Tensor tensor, string name) => new(tensor, name, MPI.Unsafe.MPI_BYTE, 1);

    /// <summary>Calls MPI for each piece of two buffers of the same size.</summary>
    public static void Exchange(MpiBuffer from, MpiBuffer to, Func<nint, nint, int, int> call)
    {
        var (source, target) = (from.Address, to.Address);
        for (long start = 0, bytes; start < from.Bytes; start += bytes)
        {
            bytes = Math.Min(PieceBytes, from.Bytes - start);
            Check(call(source + (nint)start, target + (nint)start, (int)(bytes / from.elementBytes)));
        }
    }

    /// <summary>Throws if a call of MPI failed.</summary>
    public static void Check(int code)
    {
        if (code != MPI.Unsafe.MPI_SUCCESS)
        {
            throw MPI.Environment.TranslateErrorIntoException(code);
        }
    }

    public unsafe void Clear() => NativeMemory.Clear((void*)Address, (nuint)Bytes);

    /// <summary>Where the elements begin; 0 if there are none. It is read from the first element, because a span of all would end at 2 GiB.</summary>
    private unsafe nint Address
    {
        get
        {
            if (host.numel() == 0)
            {
                return 0;
            }

            using var flat = host.view(-1);
            using var first = flat.narrow(0, 0, 1);
            return (nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref MemoryMarshal.GetReference(first.bytes));
        }
    }

    /// <summary>Copies what was written in the host's memory to the tensor.</summary>
    public void Return()
    {
        if (!ReferenceEquals(host, tensor))
        {
            tensor.copy_(host);
        }
    }
}
