using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Subset;

/// <summary>One argument of an operator call, made implicitly from what a caller has at hand. It holds what it was made from alive.</summary>
internal readonly struct Arg
{
    internal readonly object? Object;
    internal readonly long Bits;
    internal readonly Tag Tag;

    private Arg(Tag tag, long bits = 0, object? @object = null) => (Tag, Bits, Object) = (tag, bits, @object);

    /// <summary>Python's None.</summary>
    internal static Arg None => default;

    /// <summary>What the operator's schema says when this argument is left out.</summary>
    internal static Arg Default => new(Tag.Default);

    /// <summary>A list of one dimension, without an array.</summary>
    internal static Arg List(long dim) => new(Tag.IntList, dim);

    /// <summary>The list, or the schema's None where it has no dimension: "over all dimensions".</summary>
    internal static Arg Dims(ReadOnlySpan<long> dims) => new(Tag.IntList, 0, dims.ToArray());

    /// <summary>Tensors, any of which may be missing.</summary>
    internal static Arg Optionals(Tensor?[] tensors) => new(Tag.OptionalTensorList, 0, tensors);

    public static implicit operator Arg(Tensor? value) => value is null ? None : new(Tag.Tensor, 0, value);
    public static implicit operator Arg(Tensor[] value) => new(Tag.TensorList, 0, value);
    public static implicit operator Arg(long value) => new(Tag.Int, value);
    public static implicit operator Arg(long? value) => value is null ? None : new(Tag.Int, value.Value);
    public static implicit operator Arg(double value) => new(Tag.Double, BitConverter.DoubleToInt64Bits(value));
    public static implicit operator Arg(double? value) => value is { } given ? (Arg)given : None;
    public static implicit operator Arg(bool value) => new(Tag.Bool, value ? 1 : 0);
    public static implicit operator Arg(long[]? value) => value is null ? None : new(Tag.IntList, 0, value);
    public static implicit operator Arg(string? value) => value is null ? None : new(Tag.String, 0, System.Text.Encoding.UTF8.GetBytes(value));
    public static implicit operator Arg(Scalar? value) => value is null ? None : new(value.Tag, value.Bits);
    public static implicit operator Arg(ScalarType value) => new(Tag.Int, (long)value);
    public static implicit operator Arg(ScalarType? value) => value is { } given ? (Arg)given : None;
    public static implicit operator Arg(Device? value) => value is null ? None : new(Tag.Device, ((long)value.type << 32) | (uint)value.index);
    public static implicit operator Arg(Generator? value) => value is null ? None : new(Tag.Generator, 0, value);

    /// <summary>How many 64-bit words of scratch this argument needs.</summary>
    internal int Words => Tag switch {
        Tag.IntList => Object is long[] list ? list.Length : 1,
        Tag.TensorList or Tag.OptionalTensorList => ((Tensor?[])Object!).Length,
        Tag.String => (((byte[])Object!).Length + 7) / 8,
        _ => 0
    };

    /// <summary>Writes the argument in its native form; lists go into the scratch. Returns the words used.</summary>
    internal unsafe int Write(NativeValue* target, long* scratch)
    {
        target->Tag = Tag;
        switch (Tag) {
        case Tag.Tensor:
            target->Bits = Unsafe.As<Tensor>(Object!).Handle;
            return 0;
        case Tag.IntList when Object is null:
            return WriteList(target, scratch, [Bits]);
        case Tag.IntList:
            return WriteList(target, scratch, (long[])Object);
        case Tag.TensorList or Tag.OptionalTensorList:
            var tensors = (Tensor?[])Object!;
            for (var i = 0; i < tensors.Length; i++) {
                if (tensors[i] is null && Tag == Tag.TensorList) throw new ArgumentNullException(nameof(tensors), $"Tensor {i} of the list is null.");
                scratch[i] = tensors[i] is null ? 0 : tensors[i]!.Handle;
            }
            target->Length = tensors.Length;
            target->Bits = (long)scratch;
            return tensors.Length;
        case Tag.String:
            var bytes = (byte[])Object!;
            bytes.CopyTo(new Span<byte>(scratch, bytes.Length));
            target->Length = bytes.Length;
            target->Bits = (long)scratch;
            return Words;
        case Tag.Device:
            target->Length = (int)(Bits >> 32);
            target->Bits = (int)Bits;
            return 0;
        case Tag.Generator:
            target->Bits = ((Generator)Object!).Handle;
            return 0;
        default:
            target->Bits = Bits;
            return 0;
        }
    }

    private static unsafe int WriteList(NativeValue* target, long* scratch, ReadOnlySpan<long> list)
    {
        list.CopyTo(new Span<long>(scratch, list.Length));
        target->Length = list.Length;
        target->Bits = (long)scratch;
        return list.Length;
    }
}
