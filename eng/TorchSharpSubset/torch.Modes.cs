using TorchSharp.Subset;

namespace TorchSharp;

/// <summary>Turns gradients on or off until it is disposed of.</summary>
internal sealed class AutoGradMode : IDisposable
{
    private readonly byte before = Native.tss_grad_enabled();

    internal AutoGradMode(bool enabled) => Native.tss_set_grad_enabled((byte)(enabled ? 1 : 0));

    public void Dispose() => Native.tss_set_grad_enabled(before);
}

/// <summary>Turns inference mode on or off until it is disposed of.</summary>
internal sealed class InferenceMode : IDisposable
{
    private IntPtr guard;

    internal InferenceMode(bool mode) => guard = Native.tss_inference_begin((byte)(mode ? 1 : 0));

    public void Dispose()
    {
        if (guard != IntPtr.Zero) Native.tss_inference_end(guard);
        guard = IntPtr.Zero;
    }
}

public static partial class torch
{
    /// <summary>The version of libtorch, major and minor.</summary>
    public static string __version__ => $"{Native.tss_version() / 100}.{Native.tss_version() % 100}";

    public static DisposeScope NewDisposeScope() => DisposeScopeManager.ThreadSingleton.NewDisposeScope();
    public static DisposeScope? CurrentDisposeScope => DisposeScopeManager.ThreadSingleton.CurrentDisposeScope;

    public static IDisposable no_grad() => new AutoGradMode(false);
    public static IDisposable enable_grad(bool enabled = true) => new AutoGradMode(enabled);
    public static IDisposable set_grad_enabled(bool mode = true) => new AutoGradMode(mode);
    public static bool is_grad_enabled() => Native.tss_grad_enabled() != 0;
    public static IDisposable inference_mode(bool mode = true) => new InferenceMode(mode);
    public static bool is_inference_mode_enabled() => Native.tss_inference_enabled() != 0;

    private static ScalarType default_dtype = ScalarType.Float32;

    public static ScalarType get_default_dtype() => default_dtype;

    public static void set_default_dtype(ScalarType dtype)
    {
        if (!dtype.IsFloatingPoint()) throw new ArgumentException("only floating-point types are supported as the default type");
        default_dtype = dtype;
    }

    public static int get_num_threads() => Native.tss_threads();
    public static void set_num_threads(int num) => Native.tss_set_threads(num);
    public static int get_num_interop_threads() => Native.tss_interop_threads();
    public static void set_num_interop_threads(int num) => Native.Check(Native.tss_set_interop_threads(num));

    public static partial class autograd
    {
        public static IList<Tensor> grad(IList<Tensor> outputs, IList<Tensor> inputs, IList<Tensor>? grad_outputs = null, bool retain_graph = false, bool create_graph = false, bool allow_unused = false)
        {
            var found = new IntPtr[inputs.Count];
            var grads = Handles(grad_outputs);
            Native.Check(Native.tss_autograd_grad(Handles(outputs), outputs.Count, Handles(inputs), inputs.Count, grads, grads.Length, retain_graph, create_graph, allow_unused, found));
            GC.KeepAlive(grad_outputs);
            return found.Select(handle => new Tensor(handle)).ToList();
        }

        public static void backward(IList<Tensor> tensors, IList<Tensor>? grad_tensors = null, bool? retain_graph = null, bool create_graph = false, IList<Tensor>? inputs = null)
        {
            IntPtr[] grads = Handles(grad_tensors), leaves = Handles(inputs);
            Native.Check(Native.tss_autograd_backward(Handles(tensors), tensors.Count, grads, grads.Length, leaves, leaves.Length, retain_graph ?? create_graph, create_graph));
            GC.KeepAlive(grad_tensors);
            GC.KeepAlive(inputs);
        }

        public static void backward(Tensor tensor, IList<Tensor>? grad_tensors = null, bool? retain_graph = null, bool create_graph = false, IList<Tensor>? inputs = null) =>
            backward([tensor], grad_tensors, retain_graph, create_graph, inputs);

        public static void backward(Tensor tensor, Tensor grad_tensor, bool? retain_graph = null, bool create_graph = false, IList<Tensor>? inputs = null) =>
            backward([tensor], [grad_tensor], retain_graph, create_graph, inputs);

        private static IntPtr[] Handles(IList<Tensor>? tensors) => tensors is null ? [] : tensors.Select(tensor => tensor.Handle).ToArray();
    }
}
