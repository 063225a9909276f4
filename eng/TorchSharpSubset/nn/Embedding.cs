using TorchSharp.Subset;
using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    namespace Modules
    {
        public sealed class Embedding : nn.Module<Tensor, Tensor>
        {
            private readonly long paddingIndex;
            private readonly double? maxNorm;
            private readonly double normType;
            private readonly bool scaleGradByFreq;
            private readonly bool sparse;

            internal Embedding(Parameter weight, long? padding_idx, double? max_norm, double norm_type, bool scale_grad_by_freq, bool sparse) : base(nameof(Embedding))
            {
                var rows = weight.shape[0];
                if (padding_idx is { } padding && (padding < -rows || padding >= rows))
                    throw new System.Runtime.InteropServices.ExternalException("Padding_idx must be within num_embeddings");
                paddingIndex = padding_idx is null ? -1 : padding_idx < 0 ? padding_idx.Value + rows : padding_idx.Value;
                (maxNorm, normType, scaleGradByFreq, this.sparse) = (max_norm, norm_type, scale_grad_by_freq, sparse);
                register_parameter(nameof(weight), (Parameter)weight.DetachFromDisposeScope());
            }

            internal void ClearPadding()
            {
                if (paddingIndex < 0) return;
                using var noGradients = no_grad();
                using var row = Weight[paddingIndex];
                row.fill_(0);
            }

            private Parameter Weight => _internal_params[nameof(weight)];

            /// <summary>As in TorchSharp every reading makes another Parameter of the same memory.</summary>
            public Parameter? weight {
                get => new(Native.tss_share(Weight.Handle));
                set => ConditionallyRegisterParameter(nameof(weight), value!);
            }

            public override Tensor forward(Tensor input)
            {
                if (maxNorm is not null) {
                    using var noGradients = no_grad();
                    Aten.embedding_renorm_.CallInPlace(Weight, input, maxNorm, normType);
                }
                return Aten.embedding.Call(Weight, input, paddingIndex, scaleGradByFreq, sparse);
            }
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static Embedding Embedding(long num_embeddings, long embedding_dims, long? padding_idx = null, double? max_norm = null, double norm_type = 2.0, bool scale_grad_by_freq = false, bool sparse = false, Device? device = null, ScalarType? dtype = null)
            {
                var weight = Parameter(empty([num_embeddings, embedding_dims], ScalarType.Float32, CPU));
                init.normal_(weight);
                var embedding = new Embedding(weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse);
                embedding.ClearPadding();
                return embedding.MoveModule<Embedding>(device, dtype);
            }

            public static Embedding Embedding_from_pretrained(Tensor embeddings, bool freeze = true, long? padding_idx = null, double? max_norm = null, double norm_type = 2.0, bool scale_grad_by_freq = false, bool sparse = false, Device? device = null, ScalarType? dtype = null)
            {
                var weight = Parameter(embeddings.alias(), !freeze);
                return new Embedding(weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse).MoveModule<Embedding>(device, dtype);
            }
        }
    }
}
