using TorchSharp;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>A saved state of the random number generators, which a computation can return to so that dropout draws the same masks again.</summary>
/// <remarks>
/// TorchSharp can read and set the CPU generator's state, but not the CUDA generators'. There a computation starts from a
/// seed drawn from the CPU generator, so that it can be repeated.
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
    /// <param name="isRandom">Whether it draws random numbers.</param>
    public static RandomState Capture(Device device, bool isRandom)
    {
        using var scope = NewDisposeScope();
        var seed = isRandom ? SeedCuda(device) : null;
        return new(random.get_rng_state().DetachFromDisposeScope(), seed);
    }

    /// <summary>Seeds the CUDA generators from the CPU's, if the computation runs there.</summary>
    public static long? SeedCuda(Device device)
    {
        if (device.type != DeviceType.CUDA)
        {
            return null;
        }

        using var drawn = randint(long.MaxValue, [1], int64, CPU);
        var seed = drawn.item<long>();
        cuda.manual_seed_all(seed);
        return seed;
    }

    public void Restore() => Restore(cpu, cudaSeed);

    public static void Restore(Tensor cpu, long? cudaSeed)
    {
        random.set_rng_state(cpu);
        if (cudaSeed is { } seed)
        {
            cuda.manual_seed_all(seed);
        }
    }

    public void Dispose() => cpu.Dispose();
}

/// <summary>The random states at the beginnings of windows, in one tensor.</summary>
internal sealed class RandomStates : IDisposable
{
    private readonly Tensor cpu; // (W, bytes)
    private readonly long?[] cudaSeeds;
    private readonly Device device;

    public RandomStates(int windows, Device device)
    {
        using var scope = NewDisposeScope();
        this.device = device;
        cpu = empty([windows, random.get_rng_state().size(0)], ScalarType.Byte, CPU).DetachFromDisposeScope();
        cudaSeeds = new long?[windows];
    }

    public void Capture(int window)
    {
        using var scope = NewDisposeScope();
        cudaSeeds[window] = RandomState.SeedCuda(device);
        cpu.select(0, window).copy_(random.get_rng_state());
    }

    public void Restore(int window)
    {
        using var state = cpu.select(0, window).clone();
        RandomState.Restore(state, cudaSeeds[window]);
    }

    public void Dispose() => cpu.Dispose();
}
