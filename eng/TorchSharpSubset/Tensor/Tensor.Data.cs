using System.Globalization;
using TorchSharp.Subset;
using TorchSharp.Utils;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public TensorAccessor<T> data<T>() where T : unmanaged
        {
            ValidateType(typeof(T));
            return new TensorAccessor<T>(device_type == DeviceType.CPU ? this : cpu());
        }

        public T item<T>() where T : unmanaged =>
            NumberOfElements == 1 ? data<T>()[0] : throw new ArgumentException("Number of elements in the tensor must be 1");

        public Scalar ToScalar() => Aten.item.CallScalar(this);

        public unsafe Span<byte> bytes {
            get => new((void*)Readable(), checked((int)(NumberOfElements * ElementSize)));
            set {
                if (!is_contiguous()) throw new InvalidOperationException("SetBytes() called on non-contiguous tensor.");
                if (NumberOfElements * ElementSize != value.Length) throw new ArgumentException("Mismatched data sizes in SetBytes().");
                value.CopyTo(new Span<byte>((void*)Readable(), value.Length));
            }
        }

        public unsafe void WriteBytesToStream(Stream stream, int bufferSize = 1024)
        {
            var start = (byte*)Readable();
            var total = NumberOfElements * ElementSize;
            for (var done = 0L; done < total; done += int.MaxValue) stream.Write(new ReadOnlySpan<byte>(start + done, (int)Math.Min(total - done, int.MaxValue)));
        }

        public unsafe void ReadBytesFromStream(Stream stream, int bufferSize = 1024)
        {
            var start = (byte*)Readable();
            var total = NumberOfElements * ElementSize;
            for (var done = 0L; done < total; done += int.MaxValue) stream.ReadExactly(new Span<byte>(start + done, (int)Math.Min(total - done, int.MaxValue)));
        }

        public override string ToString() => $"[{string.Join("x", shape)}], type = {dtype}, device = {device}";

        /// <summary>The metadata, or, for every other style, the metadata and the elements in row-major order.</summary>
        public string ToString(TensorStringStyle style, string? fltFormat = null, int? width = null, CultureInfo? cultureInfo = null, string? newLine = null)
        {
            if (style == TensorStringStyle.Metadata || device_type == DeviceType.META) return ToString();
            using var flat = detach().to(ScalarType.Float64, CPU).flatten();
            var numbers = flat.data<double>().Select(x => x.ToString(fltFormat ?? "g5", cultureInfo ?? CultureInfo.CurrentCulture));
            return $"{this}, values = {string.Join(" ", numbers)}";
        }

        internal void ValidateType(Type dotnetType)
        {
            var fits = Types.TryGetValue(dotnetType, out var type) && type == dtype;
            if (!fits) throw new ArgumentException($"{dotnetType.Name} is not compatible with {dtype}");
        }

        private IntPtr Readable()
        {
            if (!is_contiguous()) throw new InvalidOperationException("Bytes() called on non-contiguous tensor.");
            if (device_type != DeviceType.CPU) throw new InvalidOperationException("Reading data from non-CPU memory is not supported. Move or copy the tensor to the cpu before reading.");
            var address = Native.tss_data(Handle);
            return address != IntPtr.Zero || NumberOfElements == 0 ? address : throw Native.Error();
        }

        public static Tensor Load(BinaryReader reader)
        {
            var (type, shape) = TensorFile.ReadHead(reader);
            var tensor = empty(shape, dtype: type);
            tensor.ReadBytesFromStream(reader.BaseStream);
            return tensor;
        }

        public static Tensor Load(Stream stream)
        {
            using var reader = new BinaryReader(stream);
            return Load(reader);
        }

        public static Tensor Load(string location)
        {
            if (!File.Exists(location)) throw new FileNotFoundException(location);
            using var stream = File.OpenRead(location);
            return Load(stream);
        }
    }
}
