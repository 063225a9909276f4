using TorchSharp.Subset;

namespace TorchSharp;

public static partial class torch
{
    public class Generator : IDisposable
    {
        internal Generator(IntPtr nativeHandle)
        {
            Handle = nativeHandle != IntPtr.Zero ? nativeHandle : throw Native.Error();
            device = CPU;
        }

        public Generator(ulong seed = 0, Device? device = null) : this(Native.tss_generator_new(seed)) => this.device = device ?? CPU;

        ~Generator() => Dispose(false);

        public static Generator Default => new(Native.tss_generator_default());

        public IntPtr Handle { get; private set; }

        public Device device { get; private set; }

        public Generator manual_seed(long seed)
        {
            Native.tss_generator_set_seed(Handle, (ulong)seed);
            return this;
        }

        public long seed()
        {
            var ticks = DateTime.UtcNow.Ticks;
            manual_seed(ticks);
            return ticks;
        }

        public long initial_seed() => (long)Native.tss_generator_seed(Handle);

        public Tensor get_state()
        {
            var state = Native.tss_generator_state(Handle);
            return state != IntPtr.Zero ? new Tensor(state) : throw Native.Error();
        }

        public void set_state(Tensor value) => Native.Check(Native.tss_generator_set_state(Handle, value.Handle));

        public void Dispose()
        {
            Dispose(true);
            GC.SuppressFinalize(this);
        }

        protected virtual void Dispose(bool disposing)
        {
            if (Handle != IntPtr.Zero) Native.tss_generator_dispose(Handle);
            Handle = IntPtr.Zero;
        }
    }

    public static partial class random
    {
        public static long seed() => Generator.Default.seed();
        public static long initial_seed() => Generator.Default.initial_seed();

        /// <summary>Seeds the generator of the CPU, and of it alone, as TorchSharp does; see <see cref="cuda.manual_seed_all"/>.</summary>
        public static Generator manual_seed(long seed) => Generator.Default.manual_seed(seed);

        public static Tensor get_rng_state() => Generator.Default.get_state();
        public static void set_rng_state(Tensor new_state) => Generator.Default.set_state(new_state);
    }

    public static long seed() => random.seed();
    public static Generator manual_seed(long seed) => random.manual_seed(seed);
    public static long initial_seed() => random.initial_seed();
    public static Tensor get_rng_state() => random.get_rng_state();
    public static void set_rng_state(Tensor new_state) => random.set_rng_state(new_state);
}
