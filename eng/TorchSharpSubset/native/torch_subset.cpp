// The native half of the TorchSharp subset: every operator of libtorch through one door, and the few things that are no operator.
//
// An operator is found by its schema name and called through the dispatcher's boxed interface, so autograd, every device and every
// argument type come with it. The headers are the light ones (no torch/torch.h), which is why this compiles in seconds, and all that
// is used exists from libtorch 1.13 on.

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/version.h>

#include <cstdint>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#if TORCH_VERSION_MAJOR < 2
template <typename T> using Optional = c10::optional<T>;
#else
template <typename T> using Optional = std::optional<T>;
#endif

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// What an argument or a result is. The managed enum Tag mirrors it.
enum Tag : int32_t {
    kNone, kDefault, kTensor, kInt, kDouble, kBool, kIntList, kDoubleList, kTensorList, kOptionalTensorList, kString, kDevice, kGenerator
};

// One argument or result; the managed struct NativeValue mirrors it.
struct Value {
    int32_t tag;
    int32_t length;  // of a list or string; the type of a device
    union {
        int64_t integer;
        double real;
        void* pointer;
    };
};

// A tensor handle is an at::Tensor on the heap that belongs to whoever holds the handle.
using Handle = at::Tensor*;

thread_local std::string last_error;

// Runs the body; what it throws becomes the text of tss_last_error and the value `failed`.
template <typename R, typename F>
R guarded(R failed, F&& body) {
    try {
        return body();
    } catch (const c10::Error& e) {
        last_error = e.what();
    } catch (const std::exception& e) {
        last_error = e.what();
    } catch (...) {
        last_error = "libtorch threw something that is no std::exception";
    }
    return failed;
}

template <typename F>
bool succeeds(F&& body) {
    return guarded(false, [&] { body(); return true; });
}

Handle release(at::Tensor tensor) {
    return tensor.defined() ? new at::Tensor(std::move(tensor)) : nullptr;
}

std::vector<at::Tensor> tensors(const Handle* handles, int64_t count) {
    std::vector<at::Tensor> result(count);
    for (int64_t i = 0; i < count; ++i)
        if (handles[i] != nullptr) result[i] = *handles[i];
    return result;
}

// An operator, and what stands in for the arguments that a call leaves out.
struct Operator {
    c10::OperatorHandle handle;
    std::vector<Optional<c10::IValue>> defaults;
    std::vector<bool> is_float;  // such an argument is given as a double, even when the caller wrote an integer

    explicit Operator(const c10::OperatorHandle& op) : handle(op) {
        for (const auto& argument : op.schema().arguments()) {
            auto type = argument.type();
            if (auto optional = type->cast<c10::OptionalType>()) {
                type = optional->getElementType();
                defaults.push_back(argument.default_value() ? *argument.default_value() : c10::IValue());
            } else {
                defaults.push_back(argument.default_value());
            }
            is_float.push_back(type->kind() == c10::TypeKind::FloatType);
        }
    }

    const c10::IValue& default_of(size_t i) const {
        TORCH_CHECK(defaults[i].has_value(), toString(handle.operator_name()), " needs its argument '",
                    handle.schema().arguments()[i].name(), "'");
        return *defaults[i];
    }
};

c10::IValue box(const Value& value, bool is_float) {
    switch (value.tag) {
    case kNone: return {};
    case kTensor: return *static_cast<Handle>(value.pointer);
    case kInt: return is_float ? c10::IValue(static_cast<double>(value.integer)) : c10::IValue(value.integer);
    case kDouble: return value.real;
    case kBool: return value.integer != 0;
    case kIntList: {
        auto data = static_cast<const int64_t*>(value.pointer);
        return c10::IValue(at::IntArrayRef(data, value.length));
    }
    case kDoubleList: {
        auto data = static_cast<const double*>(value.pointer);
        return c10::IValue(at::ArrayRef<double>(data, value.length));
    }
    case kTensorList: return c10::IValue(tensors(static_cast<const Handle*>(value.pointer), value.length));
    case kOptionalTensorList: {
        auto handles = static_cast<const Handle*>(value.pointer);
        c10::List<Optional<at::Tensor>> list;
        for (int32_t i = 0; i < value.length; ++i)
            list.push_back(handles[i] == nullptr ? Optional<at::Tensor>() : Optional<at::Tensor>(*handles[i]));
        return list;
    }
    case kString: return std::string(static_cast<const char*>(value.pointer), value.length);
    case kDevice:
        return c10::Device(static_cast<c10::DeviceType>(value.length), static_cast<c10::DeviceIndex>(value.integer));
    case kGenerator: return *static_cast<at::Generator*>(value.pointer);
    default: TORCH_CHECK(false, "an argument of unknown kind ", value.tag);
    }
}

Value unbox(c10::IValue value) {
    Value result{kNone, 0, {0}};
    if (value.isTensor()) {
        result.tag = kTensor;
        result.pointer = release(std::move(value).toTensor());
    } else if (value.isTensorList()) {
        auto list = value.toTensorVector();
        auto handles = new Handle[list.size()];
        for (size_t i = 0; i < list.size(); ++i) handles[i] = release(std::move(list[i]));
        result.tag = kTensorList;
        result.length = static_cast<int32_t>(list.size());
        result.pointer = handles;
    } else if (value.isBool()) {
        result.tag = kBool;
        result.integer = value.toBool();
    } else if (value.isInt()) {
        result.tag = kInt;
        result.integer = value.toInt();
    } else if (value.isDouble()) {
        result.tag = kDouble;
        result.real = value.toDouble();
    } else {
        TORCH_CHECK(value.isNone(), "a result of kind ", value.tagKind(), " is not supported");
    }
    return result;
}

// The interface of device guards: unlike the hooks of CUDA it has stayed the same over the versions.
int32_t cuda_device_count() {
    return c10::impl::hasDeviceGuardImpl(at::kCUDA) ? static_cast<int32_t>(c10::impl::getDeviceGuardImpl(at::kCUDA)->deviceCount()) : 0;
}

at::Generator cpu_generator() { return at::globalContext().defaultGenerator(at::kCPU); }

}  // namespace

// ---- errors, operators

EXPORT const char* tss_last_error() { return last_error.c_str(); }

EXPORT int32_t tss_version() { return TORCH_VERSION_MAJOR * 100 + TORCH_VERSION_MINOR; }

// The operator of that name and overload, for good; null, and no error, when this libtorch has none.
EXPORT Operator* tss_operator(const char* name, const char* overload) {
    return guarded<Operator*>(nullptr, [&]() -> Operator* {
        auto found = c10::Dispatcher::singleton().findSchema({name, overload});
        return found ? new Operator(*found) : nullptr;
    });
}

// Calls an operator. Arguments left out at the end, or given as kDefault, take the schema's default. Results beyond `capacity` are
// dropped, which is what a caller of an in-place operator wants. Returns how many results the operator has, or -1.
EXPORT int32_t tss_call(Operator* op, const Value* arguments, int32_t count, Value* results, int32_t capacity) {
    return guarded<int32_t>(-1, [&]() -> int32_t {
        const size_t expected = op->defaults.size();
        TORCH_CHECK(static_cast<size_t>(count) <= expected, toString(op->handle.operator_name()), " takes ", expected,
                    " arguments, not ", count);
        torch::jit::Stack stack;
        stack.reserve(expected);
        for (size_t i = 0; i < expected; ++i) {
            bool given = i < static_cast<size_t>(count) && arguments[i].tag != kDefault;
            stack.push_back(given ? box(arguments[i], op->is_float[i]) : op->default_of(i));
        }
        op->handle.callBoxed(stack);
        for (size_t i = 0; i < stack.size() && i < static_cast<size_t>(capacity); ++i) results[i] = unbox(std::move(stack[i]));
        return static_cast<int32_t>(stack.size());
    });
}

EXPORT void tss_free_list(Handle* handles) { delete[] handles; }

// ---- tensors

EXPORT void tss_dispose(Handle tensor) { delete tensor; }

// Another handle of the same tensor.
EXPORT Handle tss_share(Handle tensor) { return new at::Tensor(*tensor); }

EXPORT int64_t tss_dim(Handle tensor) { return tensor->dim(); }
EXPORT int64_t tss_numel(Handle tensor) { return tensor->numel(); }
EXPORT int64_t tss_element_size(Handle tensor) { return static_cast<int64_t>(tensor->element_size()); }
EXPORT int32_t tss_dtype(Handle tensor) { return static_cast<int32_t>(tensor->scalar_type()); }
EXPORT int32_t tss_device_type(Handle tensor) { return static_cast<int32_t>(tensor->device().type()); }
EXPORT int32_t tss_device_index(Handle tensor) { return tensor->device().index(); }
EXPORT int64_t tss_storage_offset(Handle tensor) { return tensor->storage_offset(); }
EXPORT bool tss_is_contiguous(Handle tensor) { return tensor->is_contiguous(); }
EXPORT bool tss_is_leaf(Handle tensor) { return tensor->is_leaf(); }
EXPORT bool tss_is_sparse(Handle tensor) { return tensor->is_sparse(); }
EXPORT bool tss_requires_grad(Handle tensor) { return tensor->requires_grad(); }

EXPORT bool tss_sizes(Handle tensor, int64_t* sizes) {
    return succeeds([&] { std::copy(tensor->sizes().begin(), tensor->sizes().end(), sizes); });
}

EXPORT bool tss_strides(Handle tensor, int64_t* strides) {
    return succeeds([&] { std::copy(tensor->strides().begin(), tensor->strides().end(), strides); });
}

// Of one dimension, which may count from the end; -1 when there is no such dimension.
EXPORT int64_t tss_size(Handle tensor, int64_t dim) {
    return guarded<int64_t>(-1, [&] { return tensor->size(dim); });
}

EXPORT int64_t tss_stride(Handle tensor, int64_t dim) {
    return guarded<int64_t>(-1, [&] { return tensor->stride(dim); });
}

EXPORT void* tss_data(Handle tensor) {
    return guarded<void*>(nullptr, [&] { return tensor->data_ptr(); });
}

// A tensor over memory of the caller's, who is told by free_memory(context) when it is no longer needed.
EXPORT Handle tss_from_memory(void* data, const int64_t* sizes, int64_t dim, int32_t dtype, void* context, void (*free_memory)(void*)) {
    return guarded<Handle>(nullptr, [&] {
        return release(at::from_blob(data, at::IntArrayRef(sizes, dim), [=](void*) { free_memory(context); },
                                     at::TensorOptions(static_cast<c10::ScalarType>(dtype))));
    });
}

EXPORT bool tss_set_requires_grad(Handle tensor, bool requires_grad) {
    return succeeds([&] { tensor->set_requires_grad(requires_grad); });
}

EXPORT Handle tss_grad(Handle tensor) {
    return guarded<Handle>(nullptr, [&] { return release(tensor->grad()); });
}

EXPORT bool tss_set_grad(Handle tensor, Handle grad) {
    return succeeds([&] {
        if (grad == nullptr) tensor->mutable_grad().reset();
        else tensor->mutable_grad() = *grad;
    });
}

EXPORT bool tss_retain_grad(Handle tensor) {
    return succeeds([&] { tensor->retain_grad(); });
}

// ---- autograd

EXPORT bool tss_autograd_backward(const Handle* outputs, int64_t output_count, const Handle* grads, int64_t grad_count,
                                  const Handle* inputs, int64_t input_count, bool retain_graph, bool create_graph) {
    return succeeds([&] {
        torch::autograd::backward(tensors(outputs, output_count), tensors(grads, grad_count), retain_graph, create_graph,
                                  tensors(inputs, input_count));
    });
}

// Writes one handle per input; null where the input has no gradient.
EXPORT bool tss_autograd_grad(const Handle* outputs, int64_t output_count, const Handle* inputs, int64_t input_count,
                              const Handle* grads, int64_t grad_count, bool retain_graph, bool create_graph, bool allow_unused,
                              Handle* results) {
    return succeeds([&] {
        auto found = torch::autograd::grad(tensors(outputs, output_count), tensors(inputs, input_count), tensors(grads, grad_count),
                                           retain_graph, create_graph, allow_unused);
        for (size_t i = 0; i < found.size(); ++i) results[i] = release(std::move(found[i]));
    });
}

EXPORT bool tss_grad_enabled() { return at::GradMode::is_enabled(); }
EXPORT void tss_set_grad_enabled(bool enabled) { at::GradMode::set_enabled(enabled); }
EXPORT bool tss_inference_enabled() { return c10::InferenceMode::is_enabled(); }
EXPORT c10::InferenceMode* tss_inference_begin(bool enabled) { return new c10::InferenceMode(enabled); }
EXPORT void tss_inference_end(c10::InferenceMode* guard) { delete guard; }

// ---- process-wide settings

EXPORT int32_t tss_threads() { return at::get_num_threads(); }
EXPORT void tss_set_threads(int32_t count) { at::set_num_threads(count); }
EXPORT int32_t tss_interop_threads() { return at::get_num_interop_threads(); }
EXPORT bool tss_set_interop_threads(int32_t count) {
    return succeeds([&] { at::set_num_interop_threads(count); });
}

// ---- generators

EXPORT bool tss_manual_seed(uint64_t seed) {
    return succeeds([&] { at::manual_seed(seed); });
}

EXPORT at::Generator* tss_generator_default() { return new at::Generator(cpu_generator().getIntrusivePtr()); }
EXPORT at::Generator* tss_generator_new(uint64_t seed) {
    return guarded<at::Generator*>(nullptr, [&] {
        auto generator = cpu_generator().clone();
        generator.set_current_seed(seed);
        return new at::Generator(std::move(generator));
    });
}
EXPORT void tss_generator_dispose(at::Generator* generator) { delete generator; }
EXPORT uint64_t tss_generator_seed(at::Generator* generator) { return generator->current_seed(); }
EXPORT void tss_generator_set_seed(at::Generator* generator, uint64_t seed) {
    std::lock_guard<std::mutex> lock(generator->mutex());
    generator->set_current_seed(seed);
}
EXPORT Handle tss_generator_state(at::Generator* generator) {
    return guarded<Handle>(nullptr, [&] {
        std::lock_guard<std::mutex> lock(generator->mutex());
        return release(generator->get_state());
    });
}
EXPORT bool tss_generator_set_state(at::Generator* generator, Handle state) {
    return succeeds([&] {
        std::lock_guard<std::mutex> lock(generator->mutex());
        generator->set_state(*state);
    });
}

// ---- CUDA

EXPORT int32_t tss_cuda_device_count() {
    return guarded<int32_t>(0, [] { return cuda_device_count(); });
}

EXPORT bool tss_cuda_manual_seed(uint64_t seed) {
    return succeeds([&] {
        for (int32_t i = 0; i < cuda_device_count(); ++i) {
            auto generator = at::globalContext().defaultGenerator(c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(i)));
            std::lock_guard<std::mutex> lock(generator.mutex());
            generator.set_current_seed(seed);
        }
    });
}

// Waits for the current stream of a device (-1: the current one); nothing here ever makes another stream.
EXPORT bool tss_cuda_synchronize(int32_t device) {
    return succeeds([&] {
        TORCH_CHECK(cuda_device_count() > 0, "there is no CUDA device to wait for");
        auto guard = c10::impl::getDeviceGuardImpl(at::kCUDA);
        auto place = device < 0 ? guard->getDevice() : c10::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device));
        guard->synchronizeStream(guard->getStream(place));
    });
}
