using System.Runtime.InteropServices;

namespace TorchSharp.Subset;

/// <summary>What an argument or a result is: the enum Tag of torch_subset.cpp.</summary>
internal enum Tag : int
{
    None, Default, Tensor, Int, Double, Bool, IntList, DoubleList, TensorList, OptionalTensorList, String, Device, Generator
}

/// <summary>One argument or result on its way through the boundary: the struct Value of torch_subset.cpp.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct NativeValue
{
    internal Tag Tag;
    internal int Length;
    internal long Bits;
}

/// <summary>The functions of libTorchSharpSubset.so.</summary>
internal static unsafe partial class Native
{
    private const string Library = "TorchSharpSubset";

    /// <summary>libtorch 1.13 starts with one thread.</summary>
    static Native()
    {
        if (tss_threads() == 1 && Environment.GetEnvironmentVariable("OMP_NUM_THREADS") is null) tss_set_threads(Environment.ProcessorCount);
    }

    /// <summary>The error of the last failed call on this thread, as the exception that TorchSharp throws.</summary>
    internal static ExternalException Error() => new(Marshal.PtrToStringUTF8(tss_last_error()));

    internal static void Check(bool succeeded)
    {
        if (!succeeded) throw Error();
    }

    internal static long Check(long value) => value >= 0 ? value : throw Error();

    [DllImport(Library)] internal static extern IntPtr tss_last_error();
    [DllImport(Library)] internal static extern int tss_version();
    [DllImport(Library)] internal static extern IntPtr tss_operator([MarshalAs(UnmanagedType.LPUTF8Str)] string name, [MarshalAs(UnmanagedType.LPUTF8Str)] string overload);
    [DllImport(Library)] internal static extern int tss_call(IntPtr op, NativeValue* arguments, int count, NativeValue* results, int capacity);
    [DllImport(Library)] internal static extern void tss_free_list(IntPtr* handles);

    [DllImport(Library)] internal static extern void tss_dispose(IntPtr tensor);
    [DllImport(Library)] internal static extern IntPtr tss_share(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern long tss_dim(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern long tss_numel(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern long tss_element_size(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern int tss_dtype(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern int tss_device_type(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern int tss_device_index(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern long tss_storage_offset(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern byte tss_is_contiguous(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern byte tss_is_leaf(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern byte tss_is_sparse(IntPtr tensor);
    [DllImport(Library), SuppressGCTransition] internal static extern byte tss_requires_grad(IntPtr tensor);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_sizes(IntPtr tensor, long* sizes);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_strides(IntPtr tensor, long* strides);
    [DllImport(Library)] internal static extern long tss_size(IntPtr tensor, long dim);
    [DllImport(Library)] internal static extern long tss_stride(IntPtr tensor, long dim);
    [DllImport(Library)] internal static extern IntPtr tss_data(IntPtr tensor);
    [DllImport(Library)] internal static extern IntPtr tss_from_memory(IntPtr data, long* sizes, long dim, int dtype, IntPtr context, delegate* unmanaged<IntPtr, void> free);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_set_requires_grad(IntPtr tensor, [MarshalAs(UnmanagedType.U1)] bool value);
    [DllImport(Library)] internal static extern IntPtr tss_grad(IntPtr tensor);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_set_grad(IntPtr tensor, IntPtr grad);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_retain_grad(IntPtr tensor);

    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)]
    internal static extern bool tss_autograd_backward(IntPtr[] outputs, long outputCount, IntPtr[] grads, long gradCount, IntPtr[] inputs, long inputCount,
        [MarshalAs(UnmanagedType.U1)] bool retainGraph, [MarshalAs(UnmanagedType.U1)] bool createGraph);

    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)]
    internal static extern bool tss_autograd_grad(IntPtr[] outputs, long outputCount, IntPtr[] inputs, long inputCount, IntPtr[] grads, long gradCount,
        [MarshalAs(UnmanagedType.U1)] bool retainGraph, [MarshalAs(UnmanagedType.U1)] bool createGraph, [MarshalAs(UnmanagedType.U1)] bool allowUnused, [Out] IntPtr[] results);

    [DllImport(Library), SuppressGCTransition] internal static extern byte tss_grad_enabled();
    [DllImport(Library), SuppressGCTransition] internal static extern void tss_set_grad_enabled(byte enabled);
    [DllImport(Library), SuppressGCTransition] internal static extern byte tss_inference_enabled();
    [DllImport(Library)] internal static extern IntPtr tss_inference_begin(byte enabled);
    [DllImport(Library)] internal static extern void tss_inference_end(IntPtr guard);

    [DllImport(Library)] internal static extern int tss_threads();
    [DllImport(Library)] internal static extern void tss_set_threads(int count);
    [DllImport(Library)] internal static extern int tss_interop_threads();
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_set_interop_threads(int count);

    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_manual_seed(ulong seed);
    [DllImport(Library)] internal static extern IntPtr tss_generator_default();
    [DllImport(Library)] internal static extern IntPtr tss_generator_new(ulong seed);
    [DllImport(Library)] internal static extern void tss_generator_dispose(IntPtr generator);
    [DllImport(Library)] internal static extern ulong tss_generator_seed(IntPtr generator);
    [DllImport(Library)] internal static extern void tss_generator_set_seed(IntPtr generator, ulong seed);
    [DllImport(Library)] internal static extern IntPtr tss_generator_state(IntPtr generator);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_generator_set_state(IntPtr generator, IntPtr state);

    [DllImport(Library)] internal static extern int tss_cuda_device_count();
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_cuda_manual_seed(ulong seed);
    [DllImport(Library)] [return: MarshalAs(UnmanagedType.U1)] internal static extern bool tss_cuda_synchronize(int device);
}
