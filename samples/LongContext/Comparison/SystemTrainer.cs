using LongContext.LanguageModel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>The mean loss of a step's tokens, and of those that recall what an earlier segment told; not a number if there are none.</summary>
public readonly record struct TrainingStep(int Step, int Steps, double Loss, double RecallLoss);

/// <summary>Trains a <see cref="Decoder"/>: the base on single segments, systems on documents whose past is carried over several steps.</summary>
public sealed class SystemTrainer : IDisposable
{
    private const int WarmUp = 50;
    private const double GateRate = 1e-2, CoolDown = 0.3, LargestGradient = 1, BaseRate = 4e-3;

    private readonly Decoder model;
    private readonly Corpus corpus;
    private readonly int seed, rows, stepTokens, stepsOfDocument;
    private readonly Func<int, double> rate; // of a step, over the first one
    private readonly AdamW optimizer;

    private SystemTrainer(Decoder model, Corpus corpus, int seed, int rows, int stepTokens, int stepsOfDocument, long tokens, double first, bool isCooledDown)
    {
        (this.model, this.corpus, this.seed, this.rows, this.stepTokens, this.stepsOfDocument) = (model, corpus, seed, rows, stepTokens, stepsOfDocument);
        Steps = (int)(tokens / (rows * stepTokens));
        rate = step => isCooledDown ? Math.Clamp((Steps - step) / (CoolDown * Steps), 0.05, 1) : 1;
        var parameters = model.named_parameters().ToLookup(entry => entry.name.EndsWith("gate", StringComparison.Ordinal), entry => entry.parameter);
        List<AdamW.ParamGroup> groups = [new(parameters[false], new AdamW.Options { LearningRate = first, InitialLearningRate = first, weight_decay = 0 })];
        if (parameters[true].Any())
        {
            groups.Add(new(parameters[true], new AdamW.Options { LearningRate = GateRate, InitialLearningRate = GateRate, weight_decay = 0 }));
        }

        optimizer = optim.AdamW(groups, beta2: 0.98);
    }

    public OptimizerHelper Optimizer => optimizer;

    public int Steps { get; }

    /// <summary>A training of the base: single segments, of which every system is the same function.</summary>
    public static SystemTrainer OfBase(Decoder model, Corpus corpus, Experiment experiment, int seed)
    {
        var length = (int)model.Options.SegmentLength;
        return new(model, corpus, seed, Math.Max(1, experiment.StepTokens / length), length, 1, experiment.BaseTokens, BaseRate, isCooledDown: false);
    }

    /// <summary>A training of a system that begins with the base, or with another system's weights, which are continued at half the rate.</summary>
    public static SystemTrainer OfSystem(Decoder model, Corpus corpus, Experiment experiment, int seed, bool isLater) => new(
        model, corpus, seed, experiment.Rows, experiment.StepTokens, experiment.StepsOfDocument,
        isLater ? experiment.Tokens / 3 : experiment.Tokens, isLater ? experiment.Rate / 2 : experiment.Rate, isCooledDown: true);

    /// <summary>Trains to the end, or until cancelled.</summary>
    /// <param name="first">The first step, at which a document begins.</param>
    /// <param name="begins">Called before each step at which documents begin.</param>
    /// <param name="done">Called after each step.</param>
    /// <param name="cancellation">Ends the training between two steps.</param>
    public void Run(int first, Action<int> begins, Action<TrainingStep> done, CancellationToken cancellation)
    {
        var documents = new DocumentBatch([]);
        for (var step = first; step < Steps && !cancellation.IsCancellationRequested; step++)
        {
            using var scope = NewDisposeScope();
            var part = step % stepsOfDocument;
            if (part == 0)
            {
                begins(step);
                model.Forget();
                documents = new([.. Enumerable.Range(0, rows).Select(row => corpus.Training(seed, ((step / stepsOfDocument) * (long)rows) + row, (stepsOfDocument * stepTokens) + 1))]);
            }

            var start = part * stepTokens;
            var logits = model.call(documents.Inputs(start, stepTokens));
            var losses = nn.functional.cross_entropy(logits.flatten(0, 1), documents.Targets(start, stepTokens).flatten(), reduction: nn.Reduction.None);
            var loss = losses.mean();
            optimizer.zero_grad();
            loss.backward();
            nn.utils.clip_grad_norm_(model.parameters(), LargestGradient);
            foreach (var group in optimizer.ParamGroups)
            {
                group.LearningRate = group.InitialLearningRate * rate(step) * Math.Min(1, (step + 1.0) / WarmUp);
            }

            optimizer.step();
            model.Detach();
            done(new(step + 1, Steps, loss.item<float>(), Recalled(losses, documents, start)));
        }

        model.Forget();
    }

    public void Dispose() => optimizer.Dispose();

    /// <summary>The mean loss of the step's tokens whose fact was last told in an earlier segment.</summary>
    private double Recalled(Tensor losses, DocumentBatch documents, int start)
    {
        var (n, sum, count) = (model.Options.SegmentLength, 0.0, 0);
        var numbers = losses.detach().data<float>().ToArray();
        for (var i = 0; i < numbers.Length; i++)
        {
            var (row, place) = (i / stepTokens, start + (i % stepTokens) + 1);
            if (documents[row].LastTold is { } told && told[place] >= 0 && told[place] / n < (place - 1) / n)
            {
                (sum, count) = (sum + numbers[i], count + 1);
            }
        }

        return sum / count;
    }
}
