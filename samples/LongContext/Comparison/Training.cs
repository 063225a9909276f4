using LongContext.LanguageModel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>The mean loss of a step's tokens, and of those that have to be recalled: what an earlier segment told, or a summary; NaN if there are none.</summary>
public readonly record struct TrainingStep(int Step, int Steps, double Loss, double RecallLoss);

/// <summary>How the learning rate changes: it rises over the warm-up, and at the end it may fall.</summary>
public readonly record struct Schedule(int Steps, double Rate, bool IsCooledDown, int WarmUp = 50)
{
    private const double CoolDown = 0.3, Least = 0.05;

    /// <summary>The rate of a step, as a part of the highest.</summary>
    public double Of(int step) => (IsCooledDown ? Math.Clamp((Steps - step) / (CoolDown * Steps), Least, 1) : 1) * Math.Min(1, (step + 1.0) / WarmUp);
}

/// <summary>A training of a <see cref="ContextDecoder"/> with AdamW; what a step reads is up to the derived class.</summary>
public abstract class Training : IDisposable
{
    private const double GateRate = 1e-2, LargestGradient = 1;

    private readonly Schedule schedule;
    private readonly AdamW optimizer;

    protected Training(ContextDecoder model, Schedule schedule)
    {
        (Model, this.schedule) = (model, schedule);
        var parameters = model.named_parameters().ToLookup(entry => entry.name.EndsWith("gate", StringComparison.Ordinal), entry => entry.parameter);
        List<AdamW.ParamGroup> groups = [new(parameters[false], new AdamW.Options { LearningRate = schedule.Rate, InitialLearningRate = schedule.Rate, weight_decay = 0 })];
        if (parameters[true].Any())
        {
            groups.Add(new(parameters[true], new AdamW.Options { LearningRate = GateRate, InitialLearningRate = GateRate, weight_decay = 0 }));
        }

        optimizer = optim.AdamW(groups, beta2: 0.98);
    }

    public OptimizerHelper Optimizer => optimizer;

    /// <summary>How many steps it has.</summary>
    public int Steps => schedule.Steps;

    protected ContextDecoder Model { get; }

    /// <summary>Trains to the end, or until cancelled.</summary>
    /// <param name="first">The first step, at which documents begin.</param>
    /// <param name="begins">Called before each step at which documents begin.</param>
    /// <param name="done">Called after each step.</param>
    /// <param name="cancellation">Ends the training between two steps.</param>
    /// <returns>The next step: <see cref="Steps"/> if it was not interrupted.</returns>
    /// <exception cref="InputException">The loss is no number any more.</exception>
    public int Run(int first, Action<int> begins, Action<TrainingStep> done, CancellationToken cancellation)
    {
        var step = first;
        for (; step < schedule.Steps && !IsCancelled(cancellation); step++)
        {
            using var scope = NewDisposeScope();
            if (BeginsDocuments(step))
            {
                begins(step);
            }

            optimizer.zero_grad();
            var (loss, recallLoss) = Backpropagate(step);
            if (!double.IsFinite(loss))
            {
                throw new InputException($"The loss of step {step + 1} is {loss}: give a lower --rate.");
            }

            nn.utils.clip_grad_norm_(Model.parameters(), LargestGradient);
            foreach (var group in optimizer.ParamGroups)
            {
                group.LearningRate = group.InitialLearningRate * schedule.Of(step);
            }

            optimizer.step();
            done(new(step + 1, schedule.Steps, loss, recallLoss));
        }

        Model.Forget();
        return step;
    }

    public void Dispose()
    {
        optimizer.Dispose();
        GC.SuppressFinalize(this);
    }

    /// <summary>Whether the training ends before the next step.</summary>
    protected virtual bool IsCancelled(CancellationToken cancellation) => cancellation.IsCancellationRequested;

    /// <summary>Whether nothing is carried into the step from the one before.</summary>
    protected abstract bool BeginsDocuments(int step);

    /// <summary>Adds the gradient of the mean loss of the step's tokens to the parameters' gradients.</summary>
    /// <returns>That loss, and the mean loss of the tokens that have to be recalled.</returns>
    protected abstract (double Loss, double RecallLoss) Backpropagate(int step);
}
