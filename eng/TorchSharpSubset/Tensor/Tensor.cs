using TorchSharp.Subset;

namespace TorchSharp;

public static partial class torch
{
    /// <summary>A tensor: its lifetime, what it is, and its place in autograd. Operators are in the files beside this one.</summary>
    public partial class Tensor : IDisposable
    {
        internal IntPtr handle;
        private static long totalCount;
        private static long peakCount;

        internal Tensor(IntPtr handle, bool register = true)
        {
            this.handle = handle;
            peakCount = Math.Max(Interlocked.Increment(ref totalCount), peakCount);
            if (register) OwningDisposeScope = DisposeScopeManager.ThreadSingleton.RegisterOnCurrentDisposeScope(this);
        }

        ~Tensor() => Dispose(false);

        internal DisposeScope? OwningDisposeScope { get; set; }

        public static long TotalCount => totalCount;
        public static long PeakCount => peakCount;

        public string? name { get; set; }

        public bool IsInvalid => handle == IntPtr.Zero;

        public IntPtr Handle => handle != IntPtr.Zero ? handle : throw new InvalidOperationException("Tensor invalid -- empty handle.");

        public void Dispose()
        {
            Dispose(true);
            GC.SuppressFinalize(this);
        }

        protected virtual void Dispose(bool disposing)
        {
            if (handle == IntPtr.Zero) return;
            DisposeScopeManager.ThreadSingleton.DisposingOnCurrentScope(this);
            OwningDisposeScope?.MarkAsDisposed(this);
            Interlocked.Decrement(ref totalCount);
            Native.tss_dispose(handle);
            handle = IntPtr.Zero;
        }

        public IntPtr DecoupleFromNativeHandle()
        {
            GC.SuppressFinalize(this);
            var taken = Handle;
            Interlocked.Decrement(ref totalCount);
            handle = IntPtr.Zero;
            return taken;
        }

        internal IntPtr MoveHandle()
        {
            var taken = handle;
            handle = IntPtr.Zero;
            return taken;
        }

        public Tensor MoveToOuterDisposeScope()
        {
            OwningDisposeScope?.MoveToOuter(this);
            return this;
        }

        public Tensor DetachFromDisposeScope()
        {
            OwningDisposeScope?.Detach(this);
            return this;
        }

        public Tensor MoveToOtherDisposeScope(Tensor other) => MoveToOtherDisposeScope(other.OwningDisposeScope);

        public Tensor MoveToOtherDisposeScope(DisposeScope? other)
        {
            if (OwningDisposeScope is null && other is not null) other.Attach(this);
            else OwningDisposeScope?.MoveToOther(other, this);
            return this;
        }

        public override bool Equals(object? obj) => obj is Tensor tensor && Equals(tensor);
        public bool Equals(Tensor target) => Aten.equal.CallBool(this, target);
        public override int GetHashCode() => base.GetHashCode();

        public long Dimensions => Native.tss_dim(Handle);
        public long dim() => Dimensions;
        public long ndim => Dimensions;
        public long NumberOfElements => Native.tss_numel(Handle);
        public long numel() => NumberOfElements;
        public long ElementSize => Native.tss_element_size(Handle);
        public long element_size() => ElementSize;
        public ScalarType dtype => (ScalarType)Native.tss_dtype(Handle);
        public bool is_integral() => torch.is_integral(dtype);
        public bool is_floating_point() => torch.is_floating_point(dtype);
        public bool is_complex() => torch.is_complex(dtype);

        public DeviceType device_type => (DeviceType)Native.tss_device_type(Handle);
        public int device_index => Native.tss_device_index(Handle);
        public Device device => device_type == DeviceType.CPU ? new Device(DeviceType.CPU) : new Device(device_type, device_index);
        public bool is_cuda => device_type == DeviceType.CUDA;
        public bool is_meta => device_type == DeviceType.META;
        public bool is_cpu() => device_type == DeviceType.CPU;
        public bool is_sparse => Native.tss_is_sparse(Handle) != 0;

        public bool is_contiguous() => Native.tss_is_contiguous(Handle) != 0;
        public long storage_offset() => Native.tss_storage_offset(Handle);

        public long[] shape => size();

        public unsafe long[] size()
        {
            var sizes = new long[Dimensions];
            fixed (long* target = sizes) Native.Check(Native.tss_sizes(Handle, target));
            return sizes;
        }

        public long size(int dim) => Native.Check(Native.tss_size(Handle, dim));

        public unsafe long[] stride()
        {
            var strides = new long[Dimensions];
            fixed (long* target = strides) Native.Check(Native.tss_strides(Handle, target));
            return strides;
        }

        public long stride(int dim) => Native.Check(Native.tss_stride(Handle, dim));

        public bool is_leaf => Native.tss_is_leaf(Handle) != 0;

        public bool requires_grad {
            get => Native.tss_requires_grad(Handle) != 0;
            set => Native.Check(Native.tss_set_requires_grad(Handle, value));
        }

        public Tensor requires_grad_(bool requires_grad = true)
        {
            this.requires_grad = requires_grad;
            return this;
        }

        public Tensor with_requires_grad(bool requires_grad = true) => requires_grad_(requires_grad);

        public Tensor? grad {
            get {
                var found = Native.tss_grad(Handle);
                return found == IntPtr.Zero ? null : new Tensor(found);
            }
            set => Native.Check(Native.tss_set_grad(Handle, value?.Handle ?? IntPtr.Zero));
        }

        public void retain_grad() => Native.Check(Native.tss_retain_grad(Handle));

        public void backward() => autograd.backward([this]);

        public void backward(IList<Tensor>? grad_tensors = null, bool retain_graph = false, bool create_graph = false, IList<Tensor>? inputs = null) =>
            autograd.backward([this], grad_tensors, retain_graph, create_graph, inputs);
    }
}
