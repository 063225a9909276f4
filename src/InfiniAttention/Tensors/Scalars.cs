using TorchSharp;

namespace InfiniAttention;

/// <summary>
/// The numbers that operators are called with, created once. TorchSharp's implicit conversion allocates a native scalar that nothing
/// keeps alive during the call, so that a collection on another thread can free it there; and those that live until their
/// finaliser runs fragment the heap between a block's temporaries. <c>a + b</c>, <c>add(b)</c> and <c>number - a</c> convert a 1 inside
/// TorchSharp: the library writes <c>a.add(b, Scalars.One)</c>.
/// </summary>
internal static class Scalars
{
    public static readonly Scalar Zero = 0.0;
    public static readonly Scalar One = 1.0;
    public static readonly Scalar OneInteger = 1L;
    public static readonly Scalar Infinity = double.PositiveInfinity;
    public static readonly Scalar MinusInfinity = double.NegativeInfinity;
    public static readonly Scalar NotANumber = double.NaN;

    /// <summary>An additive mask hides a key if its number is at most this.</summary>
    public static readonly Scalar Hidden = -10000.0;

    /// <summary>Lower limit of the feature map's exponent in float32.</summary>
    public const float LowestExponent32 = -16;

    /// <summary>The same in float64.</summary>
    public const double LowestExponent64 = -80;

    /// <summary><see cref="LowestExponent32"/></summary>
    public static readonly Scalar FeatureFloor32 = LowestExponent32;

    /// <summary><see cref="LowestExponent64"/></summary>
    public static readonly Scalar FeatureFloor64 = LowestExponent64;
}
