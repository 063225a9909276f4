using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    public static partial class torch
    {
        public static partial class optim
        {
            public static SGD SGD(IEnumerable<Parameter> parameters, double learningRate, double momentum = 0, double dampening = 0, double weight_decay = 0, bool nesterov = false, bool maximize = false) =>
                new(parameters, learningRate, momentum, dampening, weight_decay, nesterov, maximize);

            public static SGD SGD(IEnumerable<SGD.ParamGroup> parameters, double learningRate, double momentum = 0.0, double dampening = 0, double weight_decay = 0, bool nesterov = false, bool maximize = false) =>
                new(parameters, learningRate, momentum, dampening, weight_decay, nesterov, maximize);
        }
    }

    namespace Modules
    {
        using static torch.optim;

        public class SGD : OptimizerHelper, IMomentum
        {
            public SGD(IEnumerable<Parameter> parameters, double lr, double momentum = 0.0, double dampening = 0, double weight_decay = 0, bool nesterov = false, bool maximize = false)
                : this([new ParamGroup { Parameters = parameters }], lr, momentum, dampening, weight_decay, nesterov, maximize) { }

            public SGD(IEnumerable<ParamGroup> parameters, double lr, double momentum = 0.0, double dampening = 0, double weight_decay = 0, bool nesterov = false, bool maximize = false)
            {
                if (lr < 0) throw new ArgumentException($"Invalid learning rate: {lr}");
                if (momentum < 0) throw new ArgumentException($"Invalid momentum value: {momentum}");
                if (weight_decay < 0) throw new ArgumentException($"Invalid weight_decay value: {weight_decay}");
                if (nesterov && (momentum <= 0 || dampening != 0)) throw new ArgumentException("Nesterov momentum requires a momentum and zero dampening");
                _defaults = new Options {
                    LearningRate = lr, InitialLearningRate = lr, momentum = momentum, dampening = dampening,
                    weight_decay = weight_decay, nesterov = nesterov, maximize = maximize
                };
                foreach (var group in parameters) add_param_group(group);
            }

            public double Momentum { get => Defaults.momentum!.Value; set => Defaults.momentum = value; }

            private Options Defaults => (Options)_defaults;

            public override void add_param_group(Modules.ParamGroup param_group)
            {
                var options = (Options)(param_group.Options ??= new Options());
                options.LearningRate ??= Defaults.LearningRate;
                options.momentum ??= Defaults.momentum;
                options.dampening ??= Defaults.dampening;
                options.weight_decay ??= Defaults.weight_decay;
                options.nesterov ??= Defaults.nesterov;
                options.maximize ??= Defaults.maximize;
                Add(param_group, parameter => new State(parameter));
            }

            public override Tensor? step(Func<Tensor>? closure = null) => _step<ParamGroup>(Update, closure);

            private void Update(ParamGroup group)
            {
                var options = group.Options;
                double momentum = options.momentum!.Value, decay = options.weight_decay!.Value, lr = options.LearningRate!.Value;
                foreach (var parameter in group.Parameters) {
                    if (parameter.grad is not { } grad) continue;
                    if (decay != 0) grad = grad.add(parameter, alpha: decay);
                    if (momentum != 0) {
                        var state = (State)_state[parameter.Handle];
                        if (state.momentum_buffer is { } buffer) buffer.mul_(momentum).add_(grad, alpha: 1 - options.dampening!.Value);
                        else state.momentum_buffer = buffer = grad.clone().detach().DetachFromDisposeScope();
                        grad = options.nesterov!.Value ? grad.add(buffer, alpha: momentum) : buffer;
                    }
                    parameter.add_(grad, alpha: options.maximize!.Value ? lr : -lr);
                }
            }

            public sealed class State : OptimizerState, IDisposable
            {
                public Tensor? momentum_buffer;

                public State(Parameter parameter) : base(parameter) { }

                public override void Initialize(OptimizerOptions options)
                {
                    momentum_buffer?.Dispose();
                    momentum_buffer = null;
                }

                public override void SaveStateDict(BinaryWriter writer)
                {
                    writer.Write(momentum_buffer is not null);
                    momentum_buffer?.Save(writer);
                }

                public override void LoadStateDict(BinaryReader reader)
                {
                    Dispose();
                    momentum_buffer = reader.ReadBoolean() ? Tensor.Load(reader).to(_parameter.device, disposeAfter: true).DetachFromDisposeScope() : null;
                }

                public void Dispose() => momentum_buffer?.Dispose();
            }

            public class Options : OptimizerOptions
            {
                public double? momentum;
                public double? dampening;
                public double? weight_decay;
                public bool? nesterov;
                public bool? maximize;

                public override void SaveStateDict(BinaryWriter writer)
                {
                    base.SaveStateDict(writer);
                    writer.Write(momentum!.Value);
                    writer.Write(dampening!.Value);
                    writer.Write(weight_decay!.Value);
                    writer.Write(nesterov!.Value);
                    writer.Write(maximize!.Value);
                }

                public override void LoadStateDict(BinaryReader reader)
                {
                    base.LoadStateDict(reader);
                    momentum = reader.ReadDouble();
                    dampening = reader.ReadDouble();
                    weight_decay = reader.ReadDouble();
                    nesterov = reader.ReadBoolean();
                    maximize = reader.ReadBoolean();
                }
            }

            public class ParamGroup : ParamGroup<Options>, IMomentum
            {
                public ParamGroup() { }

                public ParamGroup(IEnumerable<Parameter> parameters, Options options) : base(parameters, options) { }

                public ParamGroup(IEnumerable<Parameter> parameters, double lr = 1e-3, double momentum = 0.0, double dampening = 0, double weight_decay = 0, bool nesterov = false, bool maximize = false)
                    : base(parameters, new Options { LearningRate = lr, momentum = momentum, dampening = dampening, weight_decay = weight_decay, nesterov = nesterov, maximize = maximize }) { }

                public double Momentum { get => Options.momentum!.Value; set => Options.momentum = value; }
            }
        }
    }
}
