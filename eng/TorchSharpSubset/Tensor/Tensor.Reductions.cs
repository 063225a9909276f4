using TorchSharp.Subset;

namespace TorchSharp;

public static partial class torch
{
    public partial class Tensor
    {
        public Tensor sum(ScalarType? type = null) => Aten.sum.Call(this, type);
        public Tensor sum(long[] dim, bool keepdim = false, ScalarType? type = null) => Aten.sum_dim_IntList.Call(this, dim, keepdim, type);
        public Tensor sum(ReadOnlySpan<long> dim, bool keepdim = false, ScalarType? type = null) => Aten.sum_dim_IntList.Call(this, Arg.Dims(dim), keepdim, type);
        public Tensor sum(long dim, bool keepdim = false, ScalarType? type = null) => Aten.sum_dim_IntList.Call(this, Arg.List(dim), keepdim, type);
        public Tensor sum(long dim0, long dim1, bool keepdim = false, ScalarType? type = null) => sum([dim0, dim1], keepdim, type);
        public Tensor sum(long dim0, long dim1, long dim2, bool keepdim = false, ScalarType? type = null) => sum([dim0, dim1, dim2], keepdim, type);
        public Tensor prod(ScalarType? type = null) => Aten.prod.Call(this, type);
        public Tensor prod(long dim, bool keepdim = false, ScalarType? type = null) => Aten.prod_dim_int.Call(this, dim, keepdim, type);
        public Tensor mean() => Aten.mean.Call(this);
        public Tensor mean(long[] dimensions, bool keepdim = false, ScalarType? type = null) => Aten.mean_dim.Call(this, dimensions, keepdim, type);
        public Tensor std(bool unbiased = true) => Aten.std.Call(this, unbiased);
        public Tensor std(long[] dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) => Aten.std_dim.Call(this, dimensions, unbiased, keepdim);
        public Tensor std(long dim, bool unbiased = true, bool keepdim = false, ScalarType? type = null) => Aten.std_dim.Call(this, Arg.List(dim), unbiased, keepdim);
        public Tensor var(bool unbiased = true) => Aten.var.Call(this, unbiased);
        public Tensor var(long[] dimensions, bool unbiased = true, bool keepdim = false, ScalarType? type = null) => Aten.var_dim.Call(this, dimensions, unbiased, keepdim);
        public Tensor var(long dim, bool unbiased = true, bool keepdim = false, ScalarType? type = null) => Aten.var_dim.Call(this, Arg.List(dim), unbiased, keepdim);
        public Tensor norm(float p = 2.0f) => Aten.norm_Scalar.Call(this, p);
        public Tensor norm(int dim, bool keepdim = false, float p = 2.0f) => Aten.norm_ScalarOpt_dim.Call(this, p, Arg.List(dim), keepdim);
        public Tensor logsumexp(long dim, bool keepdim = false) => Aten.logsumexp.Call(this, Arg.List(dim), keepdim);
        public Tensor median() => Aten.median.Call(this);

        public Tensor max() => Aten.max.Call(this);
        public (Tensor values, Tensor indexes) max(long dim, bool keepdim = false) => Aten.max_dim.CallPair(this, dim, keepdim);
        public Tensor max(Tensor other) => Aten.max_other.Call(this, other);
        public Tensor maximum(Tensor other) => Aten.maximum.Call(this, other);
        public Tensor min() => Aten.min.Call(this);
        public (Tensor values, Tensor indexes) min(long dim, bool keepdim = false) => Aten.min_dim.CallPair(this, dim, keepdim);
        public Tensor min(Tensor other) => Aten.min_other.Call(this, other);
        public Tensor minimum(Tensor other) => Aten.minimum.Call(this, other);
        public Tensor amax(long[] dims, bool keepdim = false, Tensor? @out = null) => amax((ReadOnlySpan<long>)dims, keepdim, @out);
        public Tensor amax(params long[] dims) => amax((ReadOnlySpan<long>)dims);
        public Tensor amax(ReadOnlySpan<long> dims, bool keepdim = false, Tensor? @out = null) =>
            @out is null ? Aten.amax.Call(this, Arg.Dims(dims), keepdim) : Aten.amax_out.Call(this, Arg.Dims(dims), keepdim, @out);
        public Tensor amin(long[] dims, bool keepdim = false, Tensor? @out = null) => amin((ReadOnlySpan<long>)dims, keepdim, @out);
        public Tensor amin(params long[] dims) => amin((ReadOnlySpan<long>)dims);
        public Tensor amin(ReadOnlySpan<long> dims, bool keepdim = false, Tensor? @out = null) =>
            @out is null ? Aten.amin.Call(this, Arg.Dims(dims), keepdim) : Aten.amin_out.Call(this, Arg.Dims(dims), keepdim, @out);
        public Tensor argmax() => Aten.argmax.Call(this);
        public Tensor argmax(long dim, bool keepdim = false) => Aten.argmax.Call(this, dim, keepdim);
        public Tensor argmin() => Aten.argmin.Call(this);
        public Tensor argmin(long dim, bool keepdim = false) => Aten.argmin.Call(this, dim, keepdim);
        public Tensor all() => Aten.all.Call(this);
        public Tensor all(long dim, bool keepdim = false) => Aten.all_dim.Call(this, dim, keepdim);
        public Tensor any() => Aten.any.Call(this);
        public Tensor any(long dim, bool keepdim = false) => Aten.any_dim.Call(this, dim, keepdim);
        public Tensor count_nonzero(long[]? dims = null) => dims is null ? Aten.count_nonzero.Call(this) : Aten.count_nonzero_dim_IntList.Call(this, dims);

        public Tensor cumsum(long dim, ScalarType? type = null) => Aten.cumsum.Call(this, dim, type);
        public Tensor cumprod(long dim, ScalarType? type = null) => Aten.cumprod.Call(this, dim, type);
        public (Tensor values, Tensor indexes) cummax(long dim) => Aten.cummax.CallPair(this, dim);
        public Tensor logcumsumexp(long dim) => Aten.logcumsumexp.Call(this, dim);
        public (Tensor values, Tensor indexes) topk(int k, int dim = -1, bool largest = true, bool sorted = true) => Aten.topk.CallPair(this, k, dim, largest, sorted);
        public (Tensor Values, Tensor Indices) sort(long dim = -1, bool descending = false, bool stable = false) => Aten.sort_stable.CallPair(this, stable, dim, descending);
        public Tensor argsort(long dim = -1, bool descending = false) => Aten.argsort.Call(this, dim, descending);

        public Tensor eq(Tensor target) => Aten.eq_Tensor.Call(this, target);
        public Tensor eq(Scalar target) => Aten.eq_Scalar.Call(this, target);
        public Tensor equal(Tensor target) => eq(target);
        public Tensor ne(Tensor target) => Aten.ne_Tensor.Call(this, target);
        public Tensor ne(Scalar target) => Aten.ne_Scalar.Call(this, target);
        public Tensor not_equal(Tensor target) => ne(target);
        public Tensor lt(Tensor target) => Aten.lt_Tensor.Call(this, target);
        public Tensor lt(Scalar target) => Aten.lt_Scalar.Call(this, target);
        public Tensor le(Tensor target) => Aten.le_Tensor.Call(this, target);
        public Tensor le(Scalar target) => Aten.le_Scalar.Call(this, target);
        public Tensor gt(Tensor target) => Aten.gt_Tensor.Call(this, target);
        public Tensor gt(Scalar target) => Aten.gt_Scalar.Call(this, target);
        public Tensor ge(Tensor target) => Aten.ge_Tensor.Call(this, target);
        public Tensor ge(Scalar target) => Aten.ge_Scalar.Call(this, target);
        public Tensor isnan() => Aten.isnan.Call(this);
        public Tensor isinf() => Aten.isinf.Call(this);
        public Tensor isfinite() => Aten.isfinite.Call(this);
        public Tensor isclose(Tensor other, double rtol = 1e-05, double atol = 1e-08, bool nanEqual = false) => Aten.isclose.Call(this, other, rtol, atol, nanEqual);
        public bool allclose(Tensor target, double rtol = 1e-05, double atol = 1e-08, bool equal_nan = false) => Aten.allclose.CallBool(this, target, rtol, atol, equal_nan);
        public bool is_nonzero() => numel() == 1
            ? Aten.is_nonzero.CallBool(this)
            : throw new InvalidOperationException("is_nonzero() called on non-singleton tensor");
    }
}
