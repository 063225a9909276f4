using TorchSharp;

namespace InfiniAttention;

/// <summary>
/// The numbers of the hot path, made once: TorchSharp's implicit conversion allocates a native scalar that lives until its
/// finaliser runs, and among a block's temporaries those keep the heap from being reused.
/// </summary>
internal static class Scalars
{
    public static readonly Scalar Zero = 0.0;
    public static readonly Scalar One = 1.0;

    /// <summary>Just below 0, and exp of it is 1.</summary>
    public static readonly Scalar BelowZero = -1e-30;

    /// <summary>Lower limits of the feature map's exponent.</summary>
    public static readonly Scalar FloorFloat32 = -16.0;

    /// <inheritdoc cref="FloorFloat32"/>
    public static readonly Scalar FloorFloat64 = -80.0;
}
