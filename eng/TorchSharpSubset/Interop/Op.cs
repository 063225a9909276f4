using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp.Subset;

/// <summary>Counts operator calls. TorchSharp has no such thing: tests that use it exist only with the subset (TORCH_SUBSET).</summary>
public static class OperatorCalls
{
    [ThreadStatic] private static long count;

    /// <summary>Operators that this thread has called since it began (those that autograd's engine calls are not among them).</summary>
    public static long Count => count;

    internal static void Add() => count++;
}

/// <summary>An operator of libtorch, by the name and overload of its schema; looked up at its first call.</summary>
internal sealed unsafe class Op(string name)
{
    private const int StackWords = 64;
    private IntPtr handle;

    /// <summary>Whether this libtorch has the operator.</summary>
    internal bool Exists => handle != 0 || (handle = Find()) != 0;

    /// <summary>Calls it for its one tensor.</summary>
    internal Tensor Call(params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result = default;
        Invoke(arguments, &result, 1);
        return new Tensor((IntPtr)result.Bits);
    }

    /// <summary>Calls it in place: what it returns is its first argument, which the caller has.</summary>
    internal Tensor CallInPlace(Tensor self, params ReadOnlySpan<Arg> others)
    {
        var arguments = new ArgBuffer();
        arguments[0] = self;
        others.CopyTo(arguments[1..]);
        Invoke(arguments[..(others.Length + 1)], null, 0);
        return self;
    }

    /// <summary>Calls it for its two tensors.</summary>
    internal (Tensor, Tensor) CallPair(params ReadOnlySpan<Arg> arguments)
    {
        var results = stackalloc NativeValue[2];
        Invoke(arguments, results, 2);
        return (new Tensor((IntPtr)results[0].Bits), new Tensor((IntPtr)results[1].Bits));
    }

    /// <summary>Calls it for its three tensors.</summary>
    internal (Tensor, Tensor, Tensor) CallTriple(params ReadOnlySpan<Arg> arguments)
    {
        var results = stackalloc NativeValue[3];
        Invoke(arguments, results, 3);
        return (new Tensor((IntPtr)results[0].Bits), new Tensor((IntPtr)results[1].Bits), new Tensor((IntPtr)results[2].Bits));
    }

    /// <summary>Calls it for its list of tensors.</summary>
    internal Tensor[] CallList(params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result = default;
        Invoke(arguments, &result, 1);
        var handles = (IntPtr*)result.Bits;
        var tensors = new Tensor[result.Length];
        for (var i = 0; i < tensors.Length; i++) tensors[i] = new Tensor(handles[i]);
        Native.tss_free_list(handles);
        return tensors;
    }

    /// <summary>Calls it for a truth value.</summary>
    internal bool CallBool(params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result = default;
        Invoke(arguments, &result, 1);
        return result.Bits != 0;
    }

    /// <summary>Calls it for a number: an integer, a real or a truth value.</summary>
    internal Scalar CallScalar(params ReadOnlySpan<Arg> arguments)
    {
        NativeValue result = default;
        Invoke(arguments, &result, 1);
        return new Scalar(result.Tag, result.Bits);
    }

    [SkipLocalsInit]
    private void Invoke(ReadOnlySpan<Arg> arguments, NativeValue* results, int capacity)
    {
        if (!Exists) throw new NotSupportedException($"The libtorch in use ({Native.tss_version() / 100}.{Native.tss_version() % 100}) has no operator {name}.");
        OperatorCalls.Add();
        var words = 0;
        foreach (ref readonly var argument in arguments) words += argument.Words;
        var onStack = stackalloc long[StackWords];
        var onHeap = words > StackWords ? GC.AllocateUninitializedArray<long>(words, pinned: true) : null;
        var scratch = onHeap is null ? onStack : (long*)Unsafe.AsPointer(ref onHeap[0]);
        var native = stackalloc NativeValue[arguments.Length];
        for (var i = 0; i < arguments.Length; i++) scratch += arguments[i].Write(native + i, scratch);
        var count = Native.tss_call(handle, native, arguments.Length, results, capacity);
        GC.KeepAlive(onHeap);
        if (count < 0) throw Native.Error();
    }

    private IntPtr Find()
    {
        var dot = name.IndexOf('.');
        return Native.tss_operator(dot < 0 ? name : name[..dot], dot < 0 ? "" : name[(dot + 1)..]);
    }

    [InlineArray(16)]
    private struct ArgBuffer
    {
        private Arg first;
    }
}
