using TorchSharp.Modules;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        public static partial class utils
        {
            public static double clip_grad_norm_(IEnumerable<Parameter> tensors, double max_norm, double norm_type = 2.0)
            {
                using var scope = NewDisposeScope();
                using var noGradients = no_grad();
                var grads = tensors.Select(tensor => tensor.grad).OfType<Tensor>().ToArray();
                if (grads.Length == 0) return 0;
                var norms = grads.Select(grad => Subset.Aten.norm_Scalar.Call(grad, norm_type).to(grads[0].device)).ToArray();
                var total = Subset.Aten.norm_Scalar.Call(stack(norms), norm_type);
                var scale = (max_norm / (total + 1e-6)).clamp_max(1);
                foreach (var grad in grads) grad.mul_(scale.to(grad.device));
                return total.ToDouble();
            }
        }
    }
}
