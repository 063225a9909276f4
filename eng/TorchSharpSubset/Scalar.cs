using TorchSharp.Subset;

namespace TorchSharp;

/// <summary>A number given to an operator.</summary>
public sealed class Scalar : IDisposable
{
    internal readonly Tag Tag;
    internal readonly long Bits;

    internal Scalar(Tag tag, long bits) => (Tag, Bits) = (tag, bits);

    private static Scalar Integer(long value) => new(Tag.Int, value);
    private static Scalar Real(double value) => new(Tag.Double, BitConverter.DoubleToInt64Bits(value));

    public static implicit operator Scalar(byte value) => Integer(value);
    public static implicit operator Scalar(sbyte value) => Integer(value);
    public static implicit operator Scalar(short value) => Integer(value);
    public static implicit operator Scalar(int value) => Integer(value);
    public static implicit operator Scalar(long value) => Integer(value);
    public static implicit operator Scalar(Half value) => Real((double)value);
    public static implicit operator Scalar(float value) => Real(value);
    public static implicit operator Scalar(double value) => Real(value);
    public static implicit operator Scalar(bool value) => new(Tag.Bool, value ? 1 : 0);

    public torch.ScalarType Type => Tag switch {
        Tag.Int => torch.ScalarType.Int64,
        Tag.Double => torch.ScalarType.Float64,
        _ => torch.ScalarType.Bool
    };

    internal double AsDouble => Tag == Tag.Double ? BitConverter.Int64BitsToDouble(Bits) : Bits;
    internal long AsInt64 => Tag == Tag.Double ? (long)BitConverter.Int64BitsToDouble(Bits) : Bits;

    /// <summary>Nothing to release here; TorchSharp's holds native memory.</summary>
    public void Dispose() { }
}

public static class ScalarExtensionMethods
{
    public static Scalar ToScalar(this byte value) => value;
    public static Scalar ToScalar(this sbyte value) => value;
    public static Scalar ToScalar(this short value) => value;
    public static Scalar ToScalar(this int value) => value;
    public static Scalar ToScalar(this long value) => value;
    public static Scalar ToScalar(this float value) => value;
    public static Scalar ToScalar(this double value) => value;
    public static Scalar ToScalar(this bool value) => value;
    public static Scalar ToScalar(this Half value) => value;

    public static Half ToHalf(this Scalar value) => (Half)value.AsDouble;
    public static float ToSingle(this Scalar value) => (float)value.AsDouble;
    public static double ToDouble(this Scalar value) => value.AsDouble;
    public static sbyte ToSByte(this Scalar value) => checked((sbyte)value.AsInt64);
    public static byte ToByte(this Scalar value) => checked((byte)value.AsInt64);
    public static short ToInt16(this Scalar value) => checked((short)value.AsInt64);
    public static int ToInt32(this Scalar value) => checked((int)value.AsInt64);
    public static long ToInt64(this Scalar value) => value.AsInt64;
    public static bool ToBoolean(this Scalar value) => value.AsDouble != 0;
}
