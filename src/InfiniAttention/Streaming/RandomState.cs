using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>A point of the random number sequence that a computation can be taken back to, so that dropout draws the same masks again.</summary>
/// <remarks>
/// TorchSharp can read and set the CPU generator's state, but not the CUDA generators': there a computation starts from a
/// seed drawn from the CPU generator, so that it can be started again.
/// </remarks>
internal sealed class RandomState : IDisposable
{
    private readonly Tensor cpu;
    private readonly long? cudaSeed;

    private RandomState(Tensor cpu, long? cudaSeed)
    {
        (this.cpu, this.cudaSeed) = (cpu, cudaSeed);
    }

    /// <param name="device">Where the computation runs.</param>
    /// <param name="isRandom">Whether it draws random numbers at all.</param>
    public static RandomState Capture(Device device, bool isRandom)
    {
        using var scope = NewDisposeScope();
        long? seed = isRandom && device.type == DeviceType.CUDA ? randint(long.MaxValue, [1], int64).item<long>() : null;
        if (seed is { } value)
        {
            cuda.manual_seed_all(value);
        }

        return new(random.get_rng_state().DetachFromDisposeScope(), seed);
    }

    public void Restore()
    {
        random.set_rng_state(cpu);
        if (cudaSeed is { } seed)
        {
            cuda.manual_seed_all(seed);
        }
    }

    public void Dispose() => cpu.Dispose();
}
