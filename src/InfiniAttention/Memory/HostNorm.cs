using System.Numerics;

namespace InfiniAttention;

/// <summary>The numbers of <see cref="NormScales"/> for loops in managed code.</summary>
/// <param name="QueryScales">a, H numbers</param>
/// <param name="KeyScales">b, G numbers</param>
/// <param name="ReadWeights">w, H*V numbers</param>
internal sealed record HostNorm<T>(T[] QueryScales, T[] KeyScales, T[] ReadWeights)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private static readonly T Epsilon = T.CreateChecked(NormScales.Epsilon);

    /// <param name="norm">Of type T; null for none.</param>
    public static HostNorm<T>? Of(NormScales? norm) => norm is null
        ? null
        : new(HostVector.Elements<T>(norm.QueryScale).ToArray(), HostVector.Elements<T>(norm.KeyScale).ToArray(), HostVector.Elements<T>(norm.ReadWeight).ToArray());

    /// <summary>1 / rms of a row of numbers, given the sum of their squares.</summary>
    public static T InverseRms(T squares, int count) => T.One / T.Sqrt((squares / T.CreateChecked(count)) + Epsilon);

    /// <summary>1 / rms of a row of whole vectors.</summary>
    public static T InverseRms(ReadOnlySpan<Vector<T>> row)
    {
        var squares = Vector<T>.Zero;
        foreach (var vector in row)
        {
            squares += vector * vector;
        }

        return InverseRms(Vector.Sum(squares), row.Length * Vector<T>.Count);
    }
}
