using System.Collections;
using System.Runtime.CompilerServices;
using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    namespace Modules
    {
        /// <summary>Modules by their place. What is added after the list was registered with its owner is not registered, as in TorchSharp.</summary>
        public class ModuleList<T> : nn.Module, IList<T> where T : nn.Module
        {
            private readonly List<T> list = [];
            private bool registered;

            public ModuleList(params T[] modules) : base("ModuleList") => list.AddRange(modules ?? []);

            protected override void RegisterComponents()
            {
                if (registered) return;
                for (var i = 0; i < list.Count; i++) register_module($"{i}", list[i]);
                registered = true;
            }

            public T this[int index] {
                get => list[index];
                set => list[index] = value;
            }

            public int Count => list.Count;
            public bool IsReadOnly => false;
            public void Add(T item) => list.Add(item);
            public void append(params T[] parameters) => list.AddRange(parameters ?? []);
            public void extend(IEnumerable<T> modules) => list.AddRange(modules);
            public void Insert(int index, T item) => list.Insert(index, item);
            public bool Remove(T item) => list.Remove(item);
            public void RemoveAt(int index) => list.RemoveAt(index);
            public void Clear() => list.Clear();
            public bool Contains(T item) => list.Contains(item);
            public int IndexOf(T item) => list.IndexOf(item);
            public void CopyTo(T[] array, int arrayIndex) => list.CopyTo(array, arrayIndex);
            public IEnumerator<T> GetEnumerator() => list.GetEnumerator();
            IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
        }

        /// <summary>Modules one after the other. As in TorchSharp it disposes of what passes between them.</summary>
        public class Sequential : nn.Module<Tensor, Tensor>
        {
            private readonly List<(string name, nn.IModule<Tensor, Tensor> module)> steps = [];

            internal Sequential() : base(nameof(Sequential)) { }

            protected Sequential(params (string name, nn.Module<Tensor, Tensor> submodule)[] modules) : this()
            {
                foreach (var (name, module) in modules) append(name, module);
            }

            protected Sequential(params nn.Module<Tensor, Tensor>[] modules) : this()
            {
                foreach (var module in modules) append(module);
            }

            public int Count => steps.Count;

            [IndexerName("SequentialItems")]
            public nn.IModule<Tensor, Tensor> this[int index] => steps[index].module;

            public Sequential append(nn.IModule<Tensor, Tensor> module) => append(steps.Count.ToString(), module);

            public Sequential append(string name, nn.IModule<Tensor, Tensor> module)
            {
                steps.Add((name, module));
                return this;
            }

            public override Tensor forward(Tensor tensor)
            {
                if (steps.Count == 0) return tensor.alias();
                var passing = steps[0].module.call(tensor);
                foreach (var (_, module) in steps.Skip(1)) {
                    using var given = passing;
                    passing = module.call(given);
                }
                return passing;
            }

            private IEnumerable<(string name, nn.Module module)> Steps => steps.Select(step => (step.name, (nn.Module)step.module));

            public override IEnumerable<(string name, Parameter parameter)> named_parameters(bool recurse = true) => recurse
                ? Steps.SelectMany(step => step.module.named_parameters().Select(p => ($"{step.name}.{p.name}", p.parameter))).DistinctBy(p => p.parameter.handle)
                : [];

            public override IEnumerable<(string name, Tensor buffer)> named_buffers(bool recurse = true, bool include_persistent = true) => recurse
                ? Steps.SelectMany(step => step.module.named_buffers(true, include_persistent).Select(b => ($"{step.name}.{b.name}", b.buffer))).DistinctBy(b => b.buffer.handle)
                : [];

            public override IEnumerable<(string name, nn.Module module)> named_children() => Steps;

            public override IEnumerable<(string name, nn.Module module)> named_modules() =>
                Steps.Concat(Steps.SelectMany(step => step.module.named_modules().Select(m => ($"{step.name}.{m.name}", m.module))));

            public override nn.Module apply(Action<nn.Module> fn)
            {
                foreach (var (_, module) in Steps) module.apply(fn);
                fn(this);
                return this;
            }

            protected internal override nn.Module _to(ScalarType dtype, bool non_blocking)
            {
                foreach (var (_, module) in Steps) module._to(dtype, non_blocking);
                return this;
            }

            protected internal override nn.Module _to(Device device, ScalarType dtype, bool non_blocking)
            {
                foreach (var (_, module) in Steps) module._to(device, dtype, non_blocking);
                return this;
            }

            protected internal override nn.Module _to(DeviceType deviceType, int deviceIndex, bool non_blocking)
            {
                foreach (var (_, module) in Steps) module._to(deviceType, deviceIndex, non_blocking);
                return this;
            }

            protected override void Dispose(bool disposing)
            {
                if (disposing) {
                    foreach (var (_, module) in Steps) module.Dispose();
                }
                base.Dispose(disposing);
            }
        }
    }

    public static partial class torch
    {
        public static partial class nn
        {
            public static ModuleList<Module> ModuleList(params Module[] modules) => new(modules);
            public static ModuleList<T> ModuleList<T>(params T[] modules) where T : Module => new(modules);

            public static Sequential Sequential() => new();
            public static Sequential Sequential(params Module<Tensor, Tensor>[] modules) => Sequential((IEnumerable<Module<Tensor, Tensor>>)modules);
            public static Sequential Sequential(params (string name, Module<Tensor, Tensor> submodule)[] modules) => Sequential((IEnumerable<(string, Module<Tensor, Tensor>)>)modules);
            public static Sequential Sequential(IEnumerable<Module<Tensor, Tensor>> modules) => modules.Aggregate(new Sequential(), (all, module) => all.append(module));
            public static Sequential Sequential(IEnumerable<(string name, Module<Tensor, Tensor> submodule)> modules) =>
                modules.Aggregate(new Sequential(), (all, step) => all.append(step.name, step.submodule));
        }
    }
}
