using static TorchSharp.torch;

namespace TorchSharp
{
    using Modules;

    public static partial class torch
    {
        public static partial class optim
        {
            public static AdamW AdamW(IEnumerable<Parameter> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false) =>
                new(parameters, lr, beta1, beta2, eps, weight_decay, amsgrad, maximize);

            public static AdamW AdamW(IEnumerable<(string name, Parameter parameter)> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false) =>
                new(parameters.Select(pair => pair.parameter), lr, beta1, beta2, eps, weight_decay, amsgrad, maximize);

            public static AdamW AdamW(IEnumerable<AdamW.ParamGroup> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false) =>
                new(parameters, lr, beta1, beta2, eps, weight_decay, amsgrad, maximize);
        }
    }

    namespace Modules
    {
        using static torch.optim;

        public class AdamW : OptimizerHelper, IBetas
        {
            public AdamW(IEnumerable<Parameter> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false)
                : this([new ParamGroup { Parameters = parameters }], lr, beta1, beta2, eps, weight_decay, amsgrad, maximize) { }

            public AdamW(IEnumerable<ParamGroup> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false)
            {
                if (lr < 0) throw new ArgumentException($"Invalid learning rate: {lr}");
                if (eps < 0) throw new ArgumentException($"Invalid ε: {eps}");
                if (beta1 is < 0 or >= 1) throw new ArgumentException($"Invalid beta1: {beta1}");
                if (beta2 is < 0 or >= 1) throw new ArgumentException($"Invalid beta2: {beta2}");
                if (weight_decay < 0) throw new ArgumentException($"Invalid weight_decay value: {weight_decay}");
                _defaults = new Options {
                    LearningRate = lr, InitialLearningRate = lr, beta1 = beta1, beta2 = beta2, eps = eps,
                    weight_decay = weight_decay, amsgrad = amsgrad, maximize = maximize
                };
                foreach (var group in parameters) add_param_group(group);
            }

            public (double, double) Betas {
                get => (Defaults.beta1!.Value, Defaults.beta2!.Value);
                set => (Defaults.beta1, Defaults.beta2) = value;
            }

            private Options Defaults => (Options)_defaults;

            public override void add_param_group(Modules.ParamGroup param_group)
            {
                var options = (Options)(param_group.Options ??= new Options());
                options.LearningRate ??= Defaults.LearningRate;
                options.beta1 ??= Defaults.beta1;
                options.beta2 ??= Defaults.beta2;
                options.eps ??= Defaults.eps;
                options.weight_decay ??= Defaults.weight_decay;
                options.amsgrad ??= Defaults.amsgrad;
                options.maximize ??= Defaults.maximize;
                Add(param_group, parameter => new State(parameter));
            }

            public override Tensor? step(Func<Tensor>? closure = null) => _step<ParamGroup>(Update, closure);

            private void Update(ParamGroup group)
            {
                var options = group.Options;
                double beta1 = options.beta1!.Value, beta2 = options.beta2!.Value, lr = options.LearningRate!.Value;
                foreach (var parameter in group.Parameters) {
                    if (parameter.grad is not { } grad) continue;
                    var state = (State)_state[parameter.Handle];
                    if (options.maximize!.Value) grad = -grad;
                    state.step++;
                    parameter.mul_(1 - lr * options.weight_decay!.Value);
                    state.exp_avg.mul_(beta1).add_(grad, alpha: 1 - beta1);
                    state.exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value: 1 - beta2);
                    var second = state.exp_avg_sq;
                    if (state.max_exp_avg_sq is { } before) {
                        second = state.max_exp_avg_sq = before.maximum(second).DetachFromDisposeScope();
                        before.Dispose();
                    }
                    var scale = second.sqrt().div_(Math.Sqrt(1 - Math.Pow(beta2, state.step))).add_(options.eps!.Value);
                    parameter.addcdiv_(state.exp_avg, scale, value: -lr / (1 - Math.Pow(beta1, state.step)));
                }
            }

            public sealed class State : OptimizerState, IDisposable
            {
                public long step;
                public Tensor exp_avg = null!;
                public Tensor exp_avg_sq = null!;
                public Tensor? max_exp_avg_sq;

                public State(Parameter parameter) : base(parameter) { }

                public override void Initialize(OptimizerOptions options)
                {
                    Dispose();
                    step = 0;
                    exp_avg = zeros_like(_parameter).DetachFromDisposeScope();
                    exp_avg_sq = zeros_like(_parameter).DetachFromDisposeScope();
                    max_exp_avg_sq = ((Options)options).amsgrad!.Value ? zeros_like(_parameter).DetachFromDisposeScope() : null;
                }

                public override void SaveStateDict(BinaryWriter writer)
                {
                    writer.Write(step);
                    exp_avg.Save(writer);
                    exp_avg_sq.Save(writer);
                    writer.Write(max_exp_avg_sq is not null);
                    max_exp_avg_sq?.Save(writer);
                }

                public override void LoadStateDict(BinaryReader reader)
                {
                    step = reader.ReadInt64();
                    exp_avg.Load(reader);
                    exp_avg_sq.Load(reader);
                    var stored = reader.ReadBoolean();
                    if (stored) {
                        max_exp_avg_sq ??= zeros_like(exp_avg_sq).DetachFromDisposeScope();
                        max_exp_avg_sq.Load(reader);
                    } else {
                        max_exp_avg_sq?.Dispose();
                        max_exp_avg_sq = null;
                    }
                }

                public void Dispose()
                {
                    exp_avg?.Dispose();
                    exp_avg_sq?.Dispose();
                    max_exp_avg_sq?.Dispose();
                }
            }

            public class Options : OptimizerOptions
            {
                public double? beta1;
                public double? beta2;
                public double? weight_decay;
                public double? eps;
                public bool? amsgrad;
                public bool? maximize;

                public override void SaveStateDict(BinaryWriter writer)
                {
                    base.SaveStateDict(writer);
                    writer.Write(beta1!.Value);
                    writer.Write(beta2!.Value);
                    writer.Write(eps!.Value);
                    writer.Write(weight_decay!.Value);
                    writer.Write(amsgrad!.Value);
                    writer.Write(maximize!.Value);
                }

                public override void LoadStateDict(BinaryReader reader)
                {
                    base.LoadStateDict(reader);
                    beta1 = reader.ReadDouble();
                    beta2 = reader.ReadDouble();
                    eps = reader.ReadDouble();
                    weight_decay = reader.ReadDouble();
                    amsgrad = reader.ReadBoolean();
                    maximize = reader.ReadBoolean();
                }
            }

            public class ParamGroup : ParamGroup<Options>, IBetas
            {
                public ParamGroup() { }

                public ParamGroup(IEnumerable<Parameter> parameters, Options options) : base(parameters, options) { }

                public ParamGroup(IEnumerable<Parameter> parameters, double lr = 1e-3, double beta1 = 0.9, double beta2 = 0.999, double eps = 1e-8, double weight_decay = 0, bool amsgrad = false, bool maximize = false)
                    : base(parameters, new Options { LearningRate = lr, beta1 = beta1, beta2 = beta2, eps = eps, weight_decay = weight_decay, amsgrad = amsgrad, maximize = maximize }) { }

                public (double, double) Betas {
                    get => (Options.beta1!.Value, Options.beta2!.Value);
                    set => (Options.beta1, Options.beta2) = value;
                }
            }
        }
    }
}
