using TorchSharp.Utils;
using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    namespace Modules
    {
        public sealed class LayerNorm : nn.Module<Tensor, Tensor>
        {
            [ComponentName(Name = nameof(bias))] private Parameter? _bias;
            [ComponentName(Name = nameof(weight))] private Parameter? _weight;

            internal LayerNorm(long[] normalized_shape, double eps, bool elementwise_affine, bool bias, Device? device, ScalarType? dtype) : base(nameof(LayerNorm))
            {
                (this.normalized_shape, this.eps, this.elementwise_affine) = (normalized_shape, eps, elementwise_affine);
                if (elementwise_affine) weight = nn.Parameter(empty(normalized_shape, dtype, device));
                if (elementwise_affine && bias) this.bias = nn.Parameter(empty(normalized_shape, dtype, device));
                reset_parameters();
            }

            public long[] normalized_shape { get; set; }
            public double eps { get; set; }
            public bool elementwise_affine { get; set; }

            public Parameter? bias {
                get => _bias;
                set {
                    _bias?.Dispose();
                    _bias = value?.DetachFromDisposeScope() as Parameter;
                    ConditionallyRegisterParameter(nameof(bias), _bias);
                }
            }

            public Parameter weight {
                get => _weight!;
                set {
                    if (value.Handle == _weight?.Handle) return;
                    _weight?.Dispose();
                    _weight = (Parameter)value.DetachFromDisposeScope();
                    ConditionallyRegisterParameter(nameof(weight), _weight);
                }
            }

            public void reset_parameters()
            {
                if (elementwise_affine) nn.init.ones_(weight);
                if (bias is not null) nn.init.zeros_(bias);
            }

            public override Tensor forward(Tensor tensor) => nn.functional.layer_norm(tensor, normalized_shape, weight, bias, eps);

            /// <summary>Unlike other modules it looks at where its weights are, not at where it believes they are.</summary>
            protected internal override nn.Module _to(DeviceType deviceType, int deviceIndex, bool non_blocking)
            {
                _toEpilog(null, new Device(deviceType, deviceIndex), non_blocking);
                return this;
            }

            protected override void Dispose(bool disposing)
            {
                _weight?.Dispose();
                _bias?.Dispose();
                base.Dispose(disposing);
            }
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static LayerNorm LayerNorm(long[] normalized_shape, double eps = 1e-05, bool elementwise_affine = true, bool bias = true, Device? device = null, ScalarType? dtype = null) =>
                new(normalized_shape, eps, elementwise_affine, bias, device, dtype);

            public static LayerNorm LayerNorm(long normalized_shape, double eps = 1e-05, bool elementwise_affine = true, bool bias = true, Device? device = null, ScalarType? dtype = null) =>
                new([normalized_shape], eps, elementwise_affine, bias, device, dtype);
        }
    }
}
