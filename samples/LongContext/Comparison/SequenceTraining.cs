using InfiniAttention;
using LongContext.LanguageModel;
using TorchSharp;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>
/// Continues an Infini system with gradients through whole sequences of a given length. Each step reads the same tokens whatever the length: one long document, which is cut
/// into sequences that begin with an empty memory.
/// </summary>
public sealed class SequenceTraining : Training
{
    /// <summary>Tokens of a step, and the longest sequence.</summary>
    public const int StepTokens = 64 * 1024;

    private const int WarmUp = 5, WindowTokens = 4096;

    private static readonly Scalar PerToken = 1.0 / StepTokens;

    private readonly Corpus corpus;
    private readonly int seed, length;
    private readonly ISequenceGroup? group;

    /// <param name="model">The model.</param>
    /// <param name="corpus">The text.</param>
    /// <param name="experiment">The experiment, which says how many tokens are read.</param>
    /// <param name="seed">The seed of the documents.</param>
    /// <param name="length">Tokens of a sequence.</param>
    /// <param name="group">Processes that share each sequence; null for this one alone.</param>
    public SequenceTraining(ContextDecoder model, Corpus corpus, Experiment experiment, int seed, int length, ISequenceGroup? group = null)
        : base(model, new((int)(experiment.Tokens / StepTokens), experiment.Rate / 2, IsCooledDown: true, WarmUp))
    {
        (this.corpus, this.seed, this.length, this.group) = (corpus, seed, length, group);
    }

    protected override bool BeginsDocuments(int step) => true;

    /// <summary>Processes that share a sequence end before the same step, when one of them is cancelled.</summary>
    protected override bool IsCancelled(CancellationToken cancellation)
    {
        if (group is null)
        {
            return base.IsCancelled(cancellation);
        }

        using var cancelled = full([1], base.IsCancelled(cancellation) ? 1 : 0, ScalarType.Float32);
        group.Sum(cancelled);
        return cancelled.item<float>() > 0;
    }

    protected override (double Loss, double RecallLoss) Backpropagate(int step)
    {
        DocumentBatch document = new([corpus.Training(seed, step, StepTokens + 1)]);
        var rows = Math.Max(1, WindowTokens / length); // sequences that are read at once: as many tokens as the window of a long one
        var sum = 0.0;
        for (var start = 0; start < StepTokens; start += rows * length)
        {
            using var scope = NewDisposeScope();
            using var streamer = group is null ? new SegmentStreamer(Model) : new SegmentStreamer(Model, group);
            streamer.WindowTokens = WindowTokens;
            var inputs = document.Inputs(start, rows * length);
            var sequences = inputs.view(rows, length, inputs.size(2)).clone();
            ForgetTokensBefore(sequences);
            var targets = document.Targets(start, rows * length).view(rows, length);
            sum += streamer.Backpropagate(
                sequences, targets, (logits, next) => nn.functional.cross_entropy(logits.transpose(1, 2), next, reduction: nn.Reduction.None), LossReduction.Sum).Loss;
        }

        using var noGrad = no_grad();
        foreach (var parameter in Model.parameters())
        {
            parameter.grad?.mul_(PerToken);
        }

        return (sum / StepTokens, double.NaN);
    }

    /// <summary>A sequence's first tokens have no tokens before them.</summary>
    private static void ForgetTokensBefore(Tensor sequences)
    {
        for (var place = 0; place < NeighbourEmbedding.Before; place++)
        {
            sequences.narrow(1, place, 1).narrow(2, place + 1, NeighbourEmbedding.Before - place).fill_(-1);
        }
    }
}
