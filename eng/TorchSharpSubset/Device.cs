using TorchSharp.Subset;

namespace TorchSharp;

public enum DeviceType
{
    CPU = 0,
    CUDA = 1,
    MKLDNN = 2,
    OPENGL = 3,
    OPENCL = 4,
    IDEEP = 5,
    HIP = 6,
    FPGA = 7,
    MSNPU = 8,
    XLA = 9,
    MPS = 13,
    META = 14,
}

public static partial class torch
{
    /// <summary>Where a tensor lives. As in TorchSharp it has no value equality: compare <see cref="type"/> and <see cref="index"/>.</summary>
    public class Device
    {
        public DeviceType type { get; private set; } = DeviceType.CPU;
        public int index { get; private set; } = -1;

        public Device(string description)
        {
            var parts = description.Split(':');
            if (parts.Length > 2) return;
            type = Enum.Parse<DeviceType>(parts[0].ToUpper());
            if (parts.Length == 2) index = int.Parse(parts[1]);
        }

        public Device(string deviceType, int index = -1)
        {
            type = Enum.Parse<DeviceType>(deviceType.ToUpper());
            this.index = index;
        }

        public Device(DeviceType deviceType, int index = -1)
        {
            type = deviceType;
            this.index = index;
        }

        public Device(int index)
        {
            type = DeviceType.CUDA;
            this.index = index;
        }

        public override string ToString()
        {
            var name = type.ToString().ToLower();
            return type == DeviceType.CPU || index == -1 ? name : $"{name}:{index}";
        }

        public static implicit operator Device(string description) => new(description);
    }

    private static Device? cudaDevice;
    private static Device default_device = new(DeviceType.CPU);

    public static readonly Device CPU = new(DeviceType.CPU);
    public static readonly Device META = new(DeviceType.META);
    public static Device CUDA => cudaDevice ??= InitializeDevice(new Device(DeviceType.CUDA));

    public static Device device(string description) => InitializeDevice(new Device(description));
    public static Device device(string deviceType, int index = -1) => InitializeDevice(new Device(deviceType, index));
    public static Device device(DeviceType deviceType, int index = -1) => InitializeDevice(new Device(deviceType, index));
    public static Device device(int index) => new(DeviceType.CUDA, index);

    public static Device get_default_device() => default_device;
    public static void set_default_device(Device device) => default_device = device;
    public static void set_default_device(string device) => set_default_device(new Device(device));

    public static Device InitializeDevice(Device? device)
    {
        device ??= get_default_device();
        InitializeDeviceType(device.type);
        return device;
    }

    public static void InitializeDeviceType(DeviceType deviceType)
    {
        if (!TryInitializeDeviceType(deviceType))
            throw new InvalidOperationException($"Torch device type {deviceType} did not initialise on the current machine.");
    }

    public static bool TryInitializeDeviceType(DeviceType deviceType) =>
        deviceType != DeviceType.CUDA || Native.tss_cuda_device_count() > 0;

    public static bool cuda_is_available() => cuda.is_available();

    public static partial class cuda
    {
        public static bool is_available() => device_count() > 0;
        public static int device_count() => Native.tss_cuda_device_count();
        public static void manual_seed(long seed) => Native.Check(Native.tss_cuda_manual_seed((ulong)seed));
        public static void manual_seed_all(long seed) => Native.Check(Native.tss_cuda_manual_seed((ulong)seed));
        public static void synchronize(Device? device = null) => Native.Check(Native.tss_cuda_synchronize(device?.index ?? -1));
    }
}
