using InfiniAttention;
using LongContext.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>The results of a step.</summary>
public sealed record AdaptStep(int Step, double Loss, double Accuracy);

/// <summary>Trains a plain decoder on inputs of one window, and continues a converted one on inputs of many segments.</summary>
public sealed class AdaptTrainer(AdaptSettings settings)
{
    private const double PlainRate = 3e-3, ContinuedRate = 2e-3, GateRate = 1e-2, WeightDecay = 0.01, LargestGradient = 1;
    private const int WarmUp = 50, CoolDown = 200;

    /// <summary>The smoothed accuracy at which inputs become twice as long.</summary>
    private const double Passed = 0.8;

    /// <summary>The largest factor of the write weights of filler, with which a short input stands for a long one.</summary>
    private const double LargestWeight = 100;

    private readonly RecallTask task = new(settings.Seed);
    private readonly Random random = new(settings.Seed);

    public void TrainPlain(Decoder model, Action<AdaptStep> stepDone, CancellationToken cancellation)
    {
        using var optimizer = optim.AdamW(model.parameters(), PlainRate, beta2: 0.98, weight_decay: WeightDecay);
        for (var step = 0; step < settings.PlainSteps && !cancellation.IsCancellationRequested; step++)
        {
            var batch = task.Anywhere(settings.BatchTokens / settings.Window, settings.Window);
            stepDone(Step(model, optimizer, batch, step, settings.PlainSteps, (tokens, _) => model.call(tokens)));
        }
    }

    /// <summary>The gates have their own learning rate and no weight decay.</summary>
    public void Continue(Decoder model, Action<AdaptStep> stepDone, CancellationToken cancellation)
    {
        using var optimizer = optim.AdamW(
        [
            new AdamW.ParamGroup(InfiniAttentionModule.OtherParameters(model), new AdamW.Options { LearningRate = ContinuedRate, weight_decay = WeightDecay }),
            new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(model), new AdamW.Options { LearningRate = GateRate, weight_decay = 0 }),
        ], beta2: 0.98);
        var (longest, smoothed) = (2, 0.0);
        for (var step = 0; step < settings.ContinuedSteps && !cancellation.IsCancellationRequested; step++)
        {
            var done = Step(model, optimizer, DrawLong(step, longest), step, settings.ContinuedSteps, (tokens, weights) =>
            {
                using var stream = new SegmentStreamer(model) { WindowTokens = settings.LongestSegments * settings.Window };
                return stream.Forward(tokens, new TokenInfo { WriteWeights = weights });
            });
            stepDone(done);
            smoothed += 0.03 * (done.Accuracy - smoothed);
            if (smoothed > Passed && longest < settings.LongestSegments)
            {
                (longest, smoothed) = (Math.Min(2 * longest, settings.LongestSegments), Passed - 0.1);
            }
        }
    }

    /// <summary>Every second batch has the longest inputs; two of every four batches ask at the end for what stands at the start.</summary>
    private RecallBatch DrawLong(int step, int longest)
    {
        var segments = step % 2 == 0 ? longest : random.Next(2, longest + 1);
        var length = segments * settings.Window;
        var rows = Math.Max(4, settings.BatchTokens / length);
        return (step & 2) == 0 ? task.Anywhere(rows, length) : task.Apart(rows, length, settings.Window, settings.WeighsFiller ? LargestWeight : 1);
    }

    private static AdaptStep Step(
        Decoder model, AdamW optimizer, RecallBatch batch, int step, int steps, Func<Tensor, Tensor, Tensor> forward)
    {
        using var scope = NewDisposeScope();
        var (rows, length) = (batch.Rows, batch.Length);
        var tokens = tensor(batch.Tokens(0, length), rows, length);
        var logits = forward(tokens, tensor(batch.WriteWeights(0, length), rows, length)).narrow(1, 0, length - 1);
        var next = tokens.narrow(1, 1, length - 1);
        var answers = tensor(batch.Answers(1, length - 1), rows, length - 1);
        var losses = nn.functional.cross_entropy(logits.reshape(-1, RecallTask.Vocabulary), next.reshape(-1), reduction: nn.Reduction.None).view_as(next);
        var loss = losses[answers].mean() + losses.mean();

        optimizer.zero_grad();
        loss.backward();
        foreach (var group in optimizer.ParamGroups)
        {
            group.LearningRate = group.InitialLearningRate * Math.Min(1, Math.Min((step + 1.0) / WarmUp, (double)(steps - step) / CoolDown));
        }

        nn.utils.clip_grad_norm_(model.parameters(), LargestGradient);
        optimizer.step();
        return new AdaptStep(step + 1, loss.item<float>(), RecallEvaluator.Accuracy(logits, next, answers));
    }
}
