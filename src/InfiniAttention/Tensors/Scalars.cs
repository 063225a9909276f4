using TorchSharp;

namespace InfiniAttention;

/// <summary>
/// The numbers that operators are called with, made once. TorchSharp's implicit conversion allocates a native scalar that
/// nothing keeps alive during the call, so that a collection on another thread can free it there; and those that live until
/// their finaliser runs keep the heap among a block's temporaries from being reused.
/// </summary>
internal static class Scalars
{
    public static readonly Scalar Zero = 0.0;
    public static readonly Scalar One = 1.0;
    public static readonly Scalar Infinity = double.PositiveInfinity;
    public static readonly Scalar MinusInfinity = double.NegativeInfinity;

    /// <summary>From which number down an additive mask hides a key.</summary>
    public static readonly Scalar Hidden = -10000.0;

    /// <summary>Lower limits of the feature map's exponent.</summary>
    public static readonly Scalar FloorFloat32 = CompressiveMemory.FloorFloat32;

    /// <inheritdoc cref="FloorFloat32"/>
    public static readonly Scalar FloorFloat64 = CompressiveMemory.FloorFloat64;
}
