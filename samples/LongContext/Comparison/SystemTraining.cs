using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>Trains the base on single segments, and systems on documents whose past is carried over several steps.</summary>
public sealed class SystemTraining : Training
{
    /// <summary>The number of the first document of systems that go on from another experiment, which has read those from 0 on.</summary>
    private const long FirstOfContinued = 1L << 32;

    private const double BaseRate = 4e-3;

    /// <summary>Tokens of a step of the base, in single segments side by side.</summary>
    public const int BaseStepTokens = 1024;

    private readonly Corpus corpus;
    private readonly int seed, rows, stepTokens, stepsOfDocument;
    private readonly long firstDocument;
    private DocumentBatch documents = new([]);

    private SystemTraining(ContextDecoder model, Corpus corpus, int seed, Schedule schedule, int rows, int stepTokens, int stepsOfDocument, long firstDocument = 0) : base(model, schedule)
    {
        this.firstDocument = firstDocument;
        (this.corpus, this.seed, this.rows, this.stepTokens, this.stepsOfDocument) = (corpus, seed, rows, stepTokens, stepsOfDocument);
    }

    /// <summary>The training of the base: single segments, on which all systems are the same function.</summary>
    public static SystemTraining OfBase(ContextDecoder model, Corpus corpus, Experiment experiment, int seed)
    {
        var (length, rows) = ((int)model.Options.SegmentLength, BaseStepTokens / (int)model.Options.SegmentLength);
        return new(model, corpus, seed, new((int)(experiment.BaseTokens / (rows * length)), BaseRate, IsCooledDown: false), rows, length, 1);
    }

    /// <summary>The training of a system that starts from the base, or from another system's weights, which are continued at half the rate.</summary>
    public static SystemTraining OfSystem(ContextDecoder model, Corpus corpus, Experiment experiment, int seed, bool isLater)
    {
        var steps = (int)((isLater ? experiment.Tokens / 3 : experiment.Tokens) / (experiment.Rows * experiment.StepTokens));
        Schedule schedule = new(steps, isLater ? experiment.Rate / 2 : experiment.Rate, IsCooledDown: true);
        return new(model, corpus, seed, schedule, experiment.Rows, experiment.StepTokens, experiment.StepsOfDocument, experiment.From is null ? 0 : FirstOfContinued);
    }

    protected override bool BeginsDocuments(int step) => step % stepsOfDocument == 0;

    protected override (double Loss, double RecallLoss) Backpropagate(int step)
    {
        if (BeginsDocuments(step))
        {
            Model.Forget();
            documents = new([.. Enumerable.Range(0, rows).Select(row => corpus.Training(seed, firstDocument + ((step / stepsOfDocument) * (long)rows) + row, (stepsOfDocument * stepTokens) + 1))]);
        }

        var start = step % stepsOfDocument * stepTokens;
        var logits = Model.call(documents.Inputs(start, stepTokens));
        var losses = nn.functional.cross_entropy(logits.flatten(0, 1), documents.Targets(start, stepTokens).flatten(), reduction: nn.Reduction.None);
        var loss = losses.mean();
        loss.backward();
        Model.Detach();
        return (loss.item<float>(), Recalled(losses, start));
    }

    /// <summary>The mean loss of the step's tokens whose fact was last told in an earlier segment.</summary>
    private double Recalled(Tensor losses, int start)
    {
        var (n, sum, count) = (Model.Options.SegmentLength, 0.0, 0);
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
