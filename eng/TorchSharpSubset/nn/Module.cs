using System.Reflection;
using TorchSharp.Modules;
using TorchSharp.Utils;

namespace TorchSharp;

public static partial class torch
{
    public static partial class nn
    {
        /// <summary>What every model is made of. Registration, as in TorchSharp, is by reflection over fields; see <see cref="RegisterComponents"/>.</summary>
        public partial class Module : IDisposable
        {
            protected OrderedDict<string, Module> _internal_submodules = new();
            protected OrderedDict<string, (Tensor, bool)> _internal_buffers = new();
            protected OrderedDict<string, Parameter> _internal_params = new();
            protected string? name;
            private bool areComponentsRegistered;
            private bool isDisposed;
            private bool isTraining = true;

            protected Module(string name) => this.name = name;

            ~Module() => Dispose(false);

            public void Dispose()
            {
                Dispose(true);
                GC.SuppressFinalize(this);
            }

            protected virtual void Dispose(bool disposing)
            {
                if (!disposing || isDisposed) return;
                foreach (var (_, buffer) in named_buffers(false).ToList()) buffer.DetachFromDisposeScope().Dispose();
                foreach (var (_, parameter) in named_parameters(false).ToList()) parameter.DetachFromDisposeScope().Dispose();
                foreach (var (_, module) in named_modules().ToList()) module.Dispose();
                isDisposed = true;
            }

            public virtual string GetName() => string.IsNullOrEmpty(name) ? GetType().Name : name;

            public virtual bool training => isTraining;

            public virtual void train(bool train = true)
            {
                isTraining = train;
                foreach (var (_, module) in named_children()) module.train(train);
            }

            public virtual void eval() => train(false);

            public virtual Module apply(Action<Module> fn)
            {
                foreach (var (_, module) in _internal_submodules) module.apply(fn);
                fn(this);
                return this;
            }

            public virtual void zero_grad(bool set_to_none = true)
            {
                foreach (var (_, parameter) in named_parameters()) {
                    using var grad = parameter.grad;
                    if (grad is null) continue;
                    if (set_to_none) parameter.grad = null;
                    else grad.zero_();
                }
            }

            public virtual IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true)
            {
                var seen = new HashSet<IntPtr> { IntPtr.Zero };
                foreach (var (key, parameter) in _internal_params)
                    if (seen.Add(parameter.handle)) yield return (key, parameter);
                if (!recurse) yield break;
                foreach (var (prefix, module) in _internal_submodules)
                    foreach (var (key, parameter) in module.named_parameters(true))
                        if (seen.Add(parameter.handle)) yield return ($"{prefix}.{key}", parameter);
            }

            public virtual IEnumerable<Parameter> parameters(bool recurse = true) => named_parameters(recurse).Select(pair => pair.parameter);

            /// <summary>As in TorchSharp, non-persistent buffers are never among them.</summary>
            public virtual IEnumerable<(string name, Tensor buffer)> named_buffers(bool recurse = true, bool include_nonpersistent = true)
            {
                var seen = new HashSet<IntPtr> { IntPtr.Zero };
                foreach (var (key, (buffer, persistent)) in _internal_buffers)
                    if (persistent && seen.Add(buffer.handle)) yield return (key, buffer);
                if (!recurse) yield break;
                foreach (var (prefix, module) in _internal_submodules)
                    foreach (var (key, buffer) in module.named_buffers(true, include_nonpersistent))
                        if (seen.Add(buffer.handle)) yield return ($"{prefix}.{key}", buffer);
            }

            public virtual IEnumerable<Tensor> buffers(bool recurse = true, bool include_nonpersistent = true) => named_buffers(recurse, include_nonpersistent).Select(pair => pair.buffer);

            public virtual IEnumerable<(string name, Module module)> named_children() => _internal_submodules;

            public virtual IEnumerable<(string name, Module module)> named_modules()
            {
                foreach (var child in _internal_submodules) yield return child;
                foreach (var (prefix, child) in _internal_submodules)
                    foreach (var (key, module) in child.named_modules()) yield return ($"{prefix}.{key}", module);
            }

            public virtual IEnumerable<Module> modules() => named_modules().Select(pair => pair.module);

            public virtual IEnumerable<Module> children() => named_children().Select(pair => pair.module);

            public virtual bool has_parameter(string target) => get_parameter(target) is not null;

            public virtual Parameter? get_parameter(string target) =>
                _internal_params.TryGetValue(target, out var parameter) ? parameter : Child(target, (module, rest) => module.get_parameter(rest));

            public virtual bool has_buffer(string target) => get_buffer(target) is not null;

            public virtual Tensor? get_buffer(string target) =>
                _internal_buffers.TryGetValue(target, out var buffer) ? buffer.Item1 : Child(target, (module, rest) => module.get_buffer(rest));

            private T? Child<T>(string target, Func<Module, string, T?> find) where T : class
            {
                var dot = target.IndexOf('.');
                return dot > 0 && _internal_submodules.TryGetValue(target[..dot], out var module) ? find(module, target[(dot + 1)..]) : null;
            }

            public virtual void register_buffer(string name, Tensor tensor, bool persistent = true)
            {
                if (tensor is null || tensor.IsInvalid) throw new ArgumentNullException(nameof(tensor), "A null tensor cannot be registered as a buffer.");
                if (!_internal_buffers.TryAdd(name, (tensor, persistent))) throw new InvalidOperationException($"Tensor {name} is already registered.");
            }

            public virtual void register_parameter(string name, Parameter param)
            {
                if (param is null || param.IsInvalid) throw new ArgumentNullException(nameof(param), "A null tensor cannot be registered as a parameter.");
                if (!_internal_params.TryAdd(name, param)) throw new InvalidOperationException($"Parameter {name} is already registered.");
            }

            public void add_module(string name, Module module) => register_module(name, module);

            public virtual void register_module(string name, Module submodule)
            {
                if (submodule is null || submodule.isDisposed) {
                    _internal_submodules.Remove(name);
                    return;
                }
                if (name.Contains('.')) throw new ArgumentException($"module name can't contain \".\", got: {name}");
                if (string.IsNullOrEmpty(name)) throw new ArgumentException("module name can't be empty string \"\"");
                if (_internal_submodules.ContainsKey(name)) throw new InvalidOperationException($"Sub-module {name} is already registered.");
                submodule.RegisterComponents();
                _internal_submodules.Add(name, submodule);
            }

            protected void ConditionallyRegisterParameter(string name, Tensor? value) => ConditionallyRegisterParameter(name, value as Parameter);

            protected void ConditionallyRegisterParameter(string name, Parameter? value)
            {
                if (value is null) _internal_params.Remove(name);
                else _internal_params[name] = value;
            }

            protected void ConditionallyRegisterBuffer(string name, Tensor? value, bool persistent = true)
            {
                if (value is null) _internal_buffers.Remove(name);
                else _internal_buffers[name] = (value, persistent);
            }

            protected void ClearModules() => _internal_submodules.clear();

            /// <summary>Registers every field by its name: modules, parameters, and every other tensor as a persistent buffer.</summary>
            protected virtual void RegisterComponents()
            {
                if (areComponentsRegistered) return;
                foreach (var field in Fields(GetType())) {
                    var key = field.ComponentName();
                    if (_internal_submodules.ContainsKey(key) || _internal_params.ContainsKey(key) || _internal_buffers.ContainsKey(key)) continue;
                    switch (field.GetValue(this)) {
                    case Module module:
                        register_module(key, module);
                        break;
                    case Parameter parameter:
                        register_parameter(key, parameter);
                        break;
                    case Tensor tensor:
                        register_buffer(key, tensor);
                        break;
                    }
                }
                areComponentsRegistered = true;
            }

            /// <summary>The fields of a type and of those it derives from; of several with one name the most derived.</summary>
            private static IEnumerable<FieldInfo> Fields(Type type)
            {
                var seen = new HashSet<string>();
                for (var level = type; level is not null && level != typeof(object); level = level.BaseType)
                    foreach (var field in level.GetFields(BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance))
                        if (seen.Add(field.Name)) yield return field;
            }
        }
    }
}

public static class FieldInfoExtensionMethods
{
    public static string ComponentName(this FieldInfo field) => field.GetCustomAttribute<ComponentNameAttribute>()?.Name ?? field.Name;
}
