using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The types that a layer can have.</summary>
internal static class FloatTypes
{
    public static IReadOnlyList<ScalarType> Narrow { get; } = [ScalarType.BFloat16, ScalarType.Float16];

    public static IReadOnlyList<ScalarType> All { get; } = [ScalarType.Float64, ScalarType.Float32, .. Narrow];

    /// <summary>Machine epsilon: the distance from 1 to the next larger number.</summary>
    public static double Precision(ScalarType type) => type switch
    {
        ScalarType.Float64 => Math.Pow(2, -52),
        ScalarType.Float32 => Math.Pow(2, -23),
        ScalarType.Float16 => Math.Pow(2, -10),
        ScalarType.BFloat16 => Math.Pow(2, -7),
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "not a type that a layer can have"),
    };
}
