using static TorchSharp.torch;

namespace LongContext.LanguageModel;

/// <summary>Rotary positions, base 10000, with a head's halves as pairs: cosines and sines of a range of positions.</summary>
internal sealed class RotaryTable : IDisposable
{
    private const double Base = 10000;

    private readonly Tensor cos, sin; // (positions, K)
    private readonly long first, width;

    public RotaryTable(long first, long count, long width)
    {
        (this.first, this.width) = (first, width);
        using var scope = NewDisposeScope();
        var frequencies = pow(Base, arange(0, width, 2, float32) / -width);
        var angles = outer(arange(first, first + count, float32), frequencies);
        (cos, sin) = (cat([angles.cos(), angles.cos()], -1).DetachFromDisposeScope(), cat([angles.sin().neg(), angles.sin()], -1).DetachFromDisposeScope());
    }

    /// <summary>Rotates x (…, N, K) by the positions from <paramref name="position"/> on.</summary>
    public Tensor Rotate(Tensor x, long position)
    {
        var (start, n) = (position - first, x.size(-2));
        return x.mul(cos.narrow(0, start, n)).addcmul(x.roll(width / 2, -1), sin.narrow(0, start, n), Numbers.One);
    }

    /// <summary>Rotates x (…, N, K) by the first N positions.</summary>
    public Tensor Rotate(Tensor x) => Rotate(x, first);

    public void Dispose()
    {
        cos.Dispose();
        sin.Dispose();
    }
}
