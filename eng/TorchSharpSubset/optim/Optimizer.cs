using TorchSharp.Modules;

namespace TorchSharp
{
    public static partial class torch
    {
        public static partial class optim
        {
            public interface ILearningRateController
            {
                double LearningRate { get; set; }
                double InitialLearningRate { get; set; }
            }

            public interface IMomentum
            {
                double Momentum { get; set; }
            }

            public interface IBetas
            {
                (double, double) Betas { get; set; }
            }

            public abstract partial class Optimizer : IDisposable
            {
                protected IList<ParamGroup> _parameter_groups = [];

                ~Optimizer() => Dispose(false);

                public void Dispose()
                {
                    Dispose(true);
                    GC.SuppressFinalize(this);
                }

                protected virtual void Dispose(bool disposing) { }

                public virtual IEnumerable<ILearningRateController> ParamGroups => _parameter_groups;

                public virtual IEnumerable<Parameter> parameters() => _parameter_groups.SelectMany(group => group.Parameters);

                public virtual void add_param_group(ParamGroup param_group) => throw new NotImplementedException("add_param_group");

                /// <summary>As in TorchSharp it fills with zeros; gradients stay tensors.</summary>
                public virtual void zero_grad()
                {
                    foreach (var parameter in parameters()) {
                        using var grad = parameter.grad;
                        grad?.zero_().Dispose();
                    }
                }

                public abstract Tensor? step(Func<Tensor>? closure = null);

                public class StateDictionary
                {
                    internal StateDictionary() { }

                    public List<OptimizerOptions> Options { get; private set; } = [];
                    public List<OptimizerState> State { get; private set; } = [];
                    public List<List<int>> StateIndexRef { get; private set; } = [];
                }
            }
        }
    }

    namespace Modules
    {
        using static torch;
        using static torch.optim;

        /// <summary>What the optimisers share: groups, states by parameter, saving and loading.</summary>
        public abstract class OptimizerHelper : Optimizer
        {
            protected OptimizerOptions _defaults = null!;
            protected Utils.OrderedDict<IntPtr, OptimizerState> _state = new();

            public void save_state_dict(string location)
            {
                using var writer = new BinaryWriter(File.Create(location));
                save_state_dict(writer);
            }

            public void save_state_dict(BinaryWriter writer)
            {
                var state = state_dict();
                writer.Write(GetType().Name);
                TensorFile.WriteNumber(writer, state.Options.Count);
                TensorFile.WriteNumber(writer, state.State.Count);
                foreach (var options in state.Options) options.SaveStateDict(writer);
                foreach (var entry in state.State) entry.SaveStateDict(writer);
            }

            public void load_state_dict(string location)
            {
                using var reader = new BinaryReader(File.OpenRead(location));
                load_state_dict(reader);
            }

            public void load_state_dict(BinaryReader reader)
            {
                var kind = reader.ReadString();
                if (kind != GetType().Name) throw new InvalidDataException($"Mismatched optimizer type: expected '{GetType().Name}', but found '{kind}' in the loaded stream.");
                var state = state_dict();
                if (TensorFile.ReadNumber(reader) != state.Options.Count) throw new ArgumentException("Invalid optimizer state -- different number of parameter groups.");
                if (TensorFile.ReadNumber(reader) != state.State.Count) throw new ArgumentException("Invalid optimizer state -- different number of states.");
                foreach (var options in state.Options) options.LoadStateDict(reader);
                foreach (var entry in state.State) entry.LoadStateDict(reader);
            }

            public virtual StateDictionary state_dict()
            {
                var found = new StateDictionary();
                foreach (var group in _parameter_groups) {
                    found.Options.Add(group.Options);
                    var places = new List<int>();
                    foreach (var parameter in group.Parameters) {
                        places.Add(found.State.Count);
                        found.State.Add(_state[parameter.Handle]);
                    }
                    found.StateIndexRef.Add(places);
                }
                return found;
            }

            protected override void Dispose(bool disposing)
            {
                base.Dispose(disposing);
                if (!disposing) return;
                foreach (var state in _state.values().OfType<IDisposable>()) state.Dispose();
                _state.clear();
            }

            /// <summary>One step of every group, without gradients, in a dispose scope; the closure, if any, is run first, with gradients.</summary>
            protected Tensor? _step<T>(Action<T> body, Func<Tensor>? loss_closure = null) where T : ParamGroup
            {
                Tensor? loss = null;
                if (loss_closure is not null) {
                    using var gradients = enable_grad();
                    loss = loss_closure();
                }
                using var noGradients = no_grad();
                using var scope = NewDisposeScope();
                foreach (var group in _parameter_groups) body((T)group);
                return loss;
            }

            /// <summary>Adds a group whose options were completed from the defaults, with a fresh state for each of its parameters.</summary>
            private protected void Add(ParamGroup group, Func<Parameter, OptimizerState> newState)
            {
                group.Options.InitialLearningRate = group.Options.LearningRate!.Value;
                _parameter_groups.Add(group);
                foreach (var parameter in group.Parameters) {
                    var state = newState(parameter);
                    _state[parameter.Handle] = state;
                    state.Initialize(group.Options);
                }
            }
        }

        public class OptimizerOptions
        {
            public double? LearningRate { get; set; }
            public double InitialLearningRate { get; set; }

            public virtual void SaveStateDict(BinaryWriter writer)
            {
                writer.Write(InitialLearningRate);
                writer.Write(LearningRate!.Value);
            }

            public virtual void LoadStateDict(BinaryReader reader)
            {
                InitialLearningRate = reader.ReadDouble();
                LearningRate = reader.ReadDouble();
            }
        }

        public abstract class OptimizerState
        {
            protected Parameter _parameter;

            protected OptimizerState(Parameter parameter) => _parameter = parameter;

            public abstract void SaveStateDict(BinaryWriter writer);
            public abstract void LoadStateDict(BinaryReader reader);
            public abstract void Initialize(OptimizerOptions options);
        }

        public class ParamGroup : ILearningRateController
        {
            public IEnumerable<Parameter> Parameters { get; set; } = [];
            public OptimizerOptions Options { get; set; } = null!;
            public double LearningRate { get => Options.LearningRate!.Value; set => Options.LearningRate = value; }
            public double InitialLearningRate { get => Options.InitialLearningRate; set => Options.InitialLearningRate = value; }
        }

        public class ParamGroup<TOptions> : ParamGroup where TOptions : OptimizerOptions
        {
            public ParamGroup() { }

            public ParamGroup(IEnumerable<Parameter> parameters, TOptions? options = null)
            {
                Parameters = parameters;
                base.Options = options!;
            }

            public new TOptions Options { get => (TOptions)base.Options; set => base.Options = value; }
        }
    }
}
