using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    namespace Modules
    {
        /// <summary>A tensor that is a weight. It takes over the handle of the tensor it is made from, and its place in the dispose scope.</summary>
        public class Parameter : Tensor
        {
            public Parameter(Tensor data, bool requires_grad = true) : base(data.with_requires_grad(requires_grad).MoveHandle(), false) =>
                DisposeScope.ReplaceWith(data, this);

            internal Parameter(IntPtr handle) : base(handle) { }
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static Parameter Parameter(Tensor data, bool requires_grad = true) => new(data, requires_grad);
        }
    }
}
