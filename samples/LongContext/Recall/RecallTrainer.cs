using LongContext.LanguageModel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Recall;

/// <summary>The mean loss of a step's tokens, and of those that recall what an earlier segment told.</summary>
public readonly record struct RecallStep(int Step, int Steps, double Loss, double RecallLoss);

/// <summary>Trains a <see cref="Decoder"/> on chronicles: the base on single segments, systems on documents whose state is carried over two steps.</summary>
public sealed class RecallTrainer(Decoder model, int seed, CancellationToken cancellation)
{
    /// <summary>Chronicles with seeds from here on are held out.</summary>
    public const int HeldOut = 1_000_000_000;

    private const int WarmUp = 50, StepTokens = 1024, Rows = 2, StepsOfDocument = 2;
    private const double GateRate = 1e-2, CoolDown = 0.3, Largest = 1;

    private readonly Random random = new(seed);

    /// <summary>Trains the base on single segments, on which all systems are the same function.</summary>
    public void TrainBase(long tokens, Action<RecallStep> done)
    {
        var length = (int)model.Options.SegmentLength;
        Train((int)(tokens / StepTokens), StepTokens / length, length, 1, _ => 4e-3, done);
    }

    /// <summary>Trains a system that starts from the base, or, at a lower learning rate, from another system.</summary>
    public void Train(long tokens, bool isLater, Action<RecallStep> done)
    {
        var steps = (int)(tokens / (Rows * StepTokens));
        var rate = isLater ? 2e-3 : 4e-3;
        Train(steps, Rows, StepTokens, StepsOfDocument, step => rate * Math.Clamp((steps - step) / (CoolDown * steps), 0.05, 1), done);
    }

    private void Train(int steps, int rows, int length, int stepsOfDocument, Func<int, double> rate, Action<RecallStep> done)
    {
        using var optimizer = Optimizer();
        List<Chronicle> documents = [];
        var first = rate(0);
        for (var step = 0; step < steps && !cancellation.IsCancellationRequested; step++)
        {
            using var scope = NewDisposeScope();
            var part = step % stepsOfDocument;
            if (part == 0)
            {
                model.Forget();
                documents = [.. Enumerable.Range(0, rows).Select(_ => new Chronicle(random.Next(HeldOut), (stepsOfDocument * length) + 1))];
            }

            var logits = model.call(Tokens(documents, part * length, length));
            var next = Tokens(documents, (part * length) + 1, length);
            var losses = nn.functional.cross_entropy(logits.flatten(0, 1), next.flatten(), reduction: nn.Reduction.None);
            var loss = losses.mean();
            optimizer.zero_grad();
            loss.backward();
            nn.utils.clip_grad_norm_(model.parameters(), Largest);
            foreach (var group in optimizer.ParamGroups)
            {
                group.LearningRate = group.InitialLearningRate * (rate(step) / first) * Math.Min(1, (step + 1.0) / WarmUp);
            }

            optimizer.step();
            model.Detach();
            done(new(step + 1, steps, loss.item<float>(), Recalled(losses, documents, part * length, length)));
        }

        model.Forget();

        AdamW Optimizer()
        {
            var gates = model.named_parameters().Where(entry => entry.name.EndsWith("gate", StringComparison.Ordinal)).Select(entry => entry.parameter).ToArray();
            var others = model.named_parameters().Where(entry => !entry.name.EndsWith("gate", StringComparison.Ordinal)).Select(entry => entry.parameter).ToArray();
            List<AdamW.ParamGroup> groups = [new(others, new AdamW.Options { LearningRate = rate(0), InitialLearningRate = rate(0), weight_decay = 0 })];
            if (gates.Length > 0)
            {
                groups.Add(new(gates, new AdamW.Options { LearningRate = GateRate, InitialLearningRate = GateRate, weight_decay = 0 }));
            }

            return optim.AdamW(groups, beta2: 0.98);
        }
    }

    /// <summary>(rows, length) tokens of the documents from <paramref name="start"/> on.</summary>
    public static Tensor Tokens(IReadOnlyList<Chronicle> documents, int start, int length) =>
        tensor(documents.SelectMany(document => document.Tokens.Skip(start).Take(length)).Select(token => (long)token).ToArray(), documents.Count, length);

    /// <summary>The mean loss of the step's tokens whose fact was last told in an earlier segment; not a number if there is none.</summary>
    private double Recalled(Tensor losses, List<Chronicle> documents, int start, int length)
    {
        var numbers = losses.detach().data<float>().ToArray();
        var (sum, count) = (0.0, 0);
        for (var row = 0; row < documents.Count; row++)
        {
            var last = documents[row].LastTold();
            for (var i = 0; i < length; i++)
            {
                var place = start + i + 1;
                if (last[place] >= 0 && last[place] / model.Options.SegmentLength < (place - 1) / model.Options.SegmentLength)
                {
                    (sum, count) = (sum + numbers[(row * length) + i], count + 1);
                }
            }
        }

        return sum / count;
    }
}
