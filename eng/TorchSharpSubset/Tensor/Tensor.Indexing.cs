using System.Runtime.CompilerServices;
using TorchSharp.Subset;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        [IndexerName("TensorItems")]
        public Tensor this[params TensorIndex[] indices] {
            get => index(indices);
            set => index_put_(value, indices);
        }

        [IndexerName("TensorItems")]
        public Tensor this[params Tensor[] indices] {
            get => index(indices);
            set => index_put_(value, indices);
        }

        [IndexerName("TensorItems")]
        public Tensor this[long i1] {
            get => At([i1]);
            set => index_put_(value, i1);
        }

        [IndexerName("TensorItems")]
        public Tensor this[long i1, long i2] {
            get => At([i1, i2]);
            set => index_put_(value, i1, i2);
        }

        [IndexerName("TensorItems")]
        public Tensor this[long i1, long i2, long i3] {
            get => At([i1, i2, i3]);
            set => index_put_(value, i1, i2, i3);
        }

        [IndexerName("TensorItems")]
        public Tensor this[long i1, long i2, long i3, long i4] {
            get => At([i1, i2, i3, i4]);
            set => index_put_(value, i1, i2, i3, i4);
        }

        [IndexerName("TensorItems")]
        public Tensor this[params long[] indices] {
            get => At(indices);
            set => index_put_(value, indices.Select(i => TensorIndex.Single(i)).ToArray());
        }

        public Tensor index(params TensorIndex[] indices)
        {
            var (view, tensors) = View(indices);
            if (tensors.Count == 0) return ReferenceEquals(view, this) ? alias() : view;
            var result = Aten.index_Tensor.Call(view, Arg.Optionals([.. tensors]));
            Drop(view);
            return result;
        }

        public Tensor index(params Tensor[] indices) => index(indices.Select(TensorIndex.Tensor).ToArray());

        public Tensor index_put_(Tensor value, params TensorIndex[] indices) => index_put_(value, indices, false);

        public Tensor index_put_(Tensor value, TensorIndex[] indices, bool accumulate = false)
        {
            var (view, tensors) = View(indices);
            if (tensors.Count > 0) Aten.index_put_.CallInPlace(view, Arg.Optionals([.. tensors]), value, accumulate);
            else if (accumulate) throw new Exception("Invalid 'indices' parameter. Must be an array of TensorIndex objects containing tensors with indices that match the shape of the tensor to update");
            else Assign(view, value);
            Drop(view);
            return this;
        }

        public Tensor index_put_(Tensor value, params Tensor[] indices) => index_put_(value, indices.Select(TensorIndex.Tensor).ToArray(), false);

        public Tensor index_put_(Scalar value, params TensorIndex[] indices)
        {
            using var tensor = full(Array.Empty<long>(), value, dtype, device);
            return index_put_(tensor, indices, false);
        }

        private Tensor At(ReadOnlySpan<long> indices)
        {
            var view = Aten.select_int.Call(this, 0, indices[0]);
            foreach (var index in indices[1..]) Replace(ref view, Aten.select_int.Call(view, 0, index));
            return view;
        }

        /// <summary>Leading dimensions of one that the target lacks are dropped from the value, as libtorch's indexing does.</summary>
        private static void Assign(Tensor view, Tensor value)
        {
            var extra = 0;
            while (value.ndim - extra > view.ndim && value.shape[extra] == 1) extra++;
            if (extra == 0) {
                view.copy_(value);
                return;
            }
            using var source = value.reshape(value.shape[extra..]);
            view.copy_(source);
        }

        /// <summary>Applies everything but tensor indices, as views; returns with it the tensor indices by dimension, null where there is none.</summary>
        private (Tensor view, List<Tensor?> tensors) View(TensorIndex[] indices)
        {
            var view = this;
            var tensors = new List<Tensor?>();
            var dim = 0;
            foreach (var index in indices) {
                switch (index.kind) {
                case TensorIndex.Kind.Single:
                    Replace(ref view, view.select(dim, index.startIndexOrBoolOrSingle.GetValueOrDefault()));
                    break;
                case TensorIndex.Kind.Slice:
                    if (index.startIndexOrBoolOrSingle is not null || index.stopIndex is not null || index.step is not null)
                        Replace(ref view, Aten.slice_Tensor.Call(view, dim, index.startIndexOrBoolOrSingle, index.stopIndex, index.step ?? 1));
                    dim++;
                    break;
                case TensorIndex.Kind.None:
                    Replace(ref view, view.unsqueeze(dim));
                    dim++;
                    break;
                case TensorIndex.Kind.Ellipsis:
                    dim += (int)ndim - indices.Sum(Consumes);
                    break;
                case TensorIndex.Kind.Bool:
                    Replace(ref view, view.unsqueeze(dim));
                    Put(tensors, dim, tensor(new[] { index.startIndexOrBoolOrSingle != 0 }, device: device));
                    dim++;
                    break;
                case TensorIndex.Kind.Tensor:
                    Put(tensors, dim, index.tensor!);
                    dim += index.tensor!.dtype is ScalarType.Bool or ScalarType.Byte ? (int)index.tensor.ndim : 1;
                    break;
                default:
                    throw new NotSupportedException("TensorIndex.Null is not in this subset of TorchSharp.");
                }
            }
            return (view, tensors);
        }

        private static int Consumes(TensorIndex index) => index.kind switch {
            TensorIndex.Kind.Single or TensorIndex.Kind.Slice => 1,
            TensorIndex.Kind.Tensor => index.tensor!.dtype is ScalarType.Bool or ScalarType.Byte ? (int)index.tensor.ndim : 1,
            _ => 0
        };

        private static void Put(List<Tensor?> tensors, int dim, Tensor index)
        {
            while (tensors.Count < dim) tensors.Add(null);
            tensors.Add(index);
        }

        private void Replace(ref Tensor view, Tensor next)
        {
            Drop(view);
            view = next;
        }

        private void Drop(Tensor view)
        {
            if (!ReferenceEquals(view, this)) view.Dispose();
        }
    }
}
