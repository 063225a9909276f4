namespace TorchSharp;

public static partial class torch
{
    public enum ScalarType : sbyte
    {
        Byte = 0,
        Int8 = 1,
        Int16 = 2,
        Int32 = 3,
        Int64 = 4,
        Float16 = 5,
        Float32 = 6,
        Float64 = 7,
        ComplexFloat32 = 9,
        ComplexFloat64 = 10,
        Bool = 11,
        BFloat16 = 15
    }

    public static ScalarType uint8 = ScalarType.Byte;
    public static ScalarType int8 = ScalarType.Int8;
    public static ScalarType int16 = ScalarType.Int16;
    public static ScalarType int32 = ScalarType.Int32;
    public static ScalarType int64 = ScalarType.Int64;
    public static ScalarType float16 = ScalarType.Float16;
    public static ScalarType float32 = ScalarType.Float32;
    public static ScalarType float64 = ScalarType.Float64;
    public static ScalarType bfloat16 = ScalarType.BFloat16;
    public static ScalarType @short = ScalarType.Int16;
    public static ScalarType @bool = ScalarType.Bool;
    public static ScalarType half = ScalarType.Float16;
    public static ScalarType @float = ScalarType.Float32;
    public static ScalarType @double = ScalarType.Float64;
    public static ScalarType @int = ScalarType.Int32;
    public static ScalarType @long = ScalarType.Int64;

    public static bool is_integral(ScalarType type) => type.IsIntegral();
    public static bool is_floating_point(ScalarType type) => type.IsFloatingPoint();
    public static bool is_complex(ScalarType type) => type.IsComplex();

    internal static ScalarType ToScalarType(Type type) => Types.TryGetValue(type, out var found)
        ? found
        : throw new NotSupportedException($"The type {type.FullName} is not supported.");

    internal static readonly Dictionary<Type, ScalarType> Types = new() {
        { typeof(bool), ScalarType.Bool }, { typeof(byte), ScalarType.Byte }, { typeof(sbyte), ScalarType.Int8 },
        { typeof(short), ScalarType.Int16 }, { typeof(int), ScalarType.Int32 }, { typeof(long), ScalarType.Int64 },
        { typeof(Half), ScalarType.Float16 }, { typeof(float), ScalarType.Float32 }, { typeof(double), ScalarType.Float64 }
    };
}
