using System.Security.Cryptography;
using InfiniAttention;
using LongContext.Comparison;
using LongContext.Models;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>How a converted model is continued.</summary>
/// <param name="Length">Tokens of a sequence, which begins with an empty memory.</param>
/// <param name="Steps">How many.</param>
/// <param name="Rate">The learning rate of the weights, or of the adapters.</param>
/// <param name="Seed">The seed of which sequences are read.</param>
/// <param name="Batch">Sequences of a step.</param>
/// <param name="Adapters">The adapters that are trained in place of the weights; null for none.</param>
/// <param name="Origin">What is trained on what: the model, its conversion and the texts. A checkpoint of another origin is refused.</param>
public sealed record FolderTrainingSettings(long Length, int Steps, double Rate, int Seed, int Batch = 1, LoraSettings? Adapters = null, string Origin = "");

/// <summary>What a step did.</summary>
/// <param name="Step">The next step.</param>
/// <param name="Loss">The mean loss of the step's tokens.</param>
/// <param name="Memories">The gates before the step, and the memories at the end of its sequence.</param>
public sealed record FolderTrainingStep(int Step, double Loss, IReadOnlyList<LayerReport> Memories);

/// <summary>
/// Continues the pre-training of a converted model on texts, with exact gradients through whole sequences and the graph of one window. What is frozen in the model stays so.
/// </summary>
public sealed class FolderTraining : IDisposable
{
    private const double GateRate = 1e-2, WeightDecay = 0.01, LargestGradient = 1;
    private const int WarmUp = 10;

    private readonly Decoder model;
    private readonly Tensor[] texts; // (tokens) each
    private readonly FolderTrainingSettings settings;
    private readonly Schedule schedule;
    private readonly AdamW optimizer;
    private readonly string[] frozen;
    private readonly string? frozenHash;

    private sealed record Saved(int Step, FolderTrainingSettings Settings, string? FrozenHash = null);

    /// <param name="model">The model.</param>
    /// <param name="texts">Tokens of any integer type, on the CPU; they stay the caller's.</param>
    /// <param name="settings">How it is continued.</param>
    public FolderTraining(Decoder model, IEnumerable<Tensor> texts, FolderTrainingSettings settings)
    {
        this.model = model;
        this.texts = [.. texts.Where(text => text.size(0) > settings.Length)];
        this.settings = settings;
        if (this.texts.Length == 0)
        {
            throw new InputException($"No text has more than {settings.Length} tokens, the length of a sequence.");
        }

        schedule = new(settings.Steps, settings.Rate, IsCooledDown: true, WarmUp);
        optimizer = optim.AdamW(
        [
            new AdamW.ParamGroup(
                InfiniAttentionModule.OtherParameters(model).Where(parameter => parameter.requires_grad),
                new AdamW.Options { LearningRate = settings.Rate, InitialLearningRate = settings.Rate, weight_decay = WeightDecay }),
            new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(model), new AdamW.Options { LearningRate = GateRate, InitialLearningRate = GateRate, weight_decay = 0 }),
        ]);
        frozen = [.. model.named_parameters().Where(entry => !entry.parameter.requires_grad).Select(entry => entry.name)];
        frozenHash = frozen.Length == 0 ? null : FrozenHash();
    }

    /// <summary>Trains to the end, or until cancelled.</summary>
    /// <param name="first">The first step.</param>
    /// <param name="done">Called after each step.</param>
    /// <param name="cancellation">Ends the training between two steps.</param>
    /// <returns>The next step.</returns>
    public int Run(int first, Action<FolderTrainingStep> done, CancellationToken cancellation)
    {
        model.train();
        var step = first;
        while (step < settings.Steps && !cancellation.IsCancellationRequested)
        {
            using var scope = NewDisposeScope();
            optimizer.zero_grad();
            var (loss, memories) = Backpropagate(Sequences(step));
            nn.utils.clip_grad_norm_(model.parameters().Where(parameter => parameter.requires_grad), LargestGradient);
            foreach (var group in optimizer.ParamGroups)
            {
                group.LearningRate = group.InitialLearningRate * schedule.Of(step);
            }

            optimizer.step();
            done(new(++step, loss, memories));
        }

        model.eval();
        return step;
    }

    /// <summary>Writes what a training needs to go on, without what is frozen; a reader sees the old file or the new one.</summary>
    public void Save(string path, int step) => TrainingCheckpoint.Save(path, new Saved(step, settings, frozenHash), model, optimizer, frozen);

    /// <summary>Reads what <see cref="Save"/> wrote.</summary>
    /// <returns>The next step.</returns>
    /// <exception cref="InputException">The file is damaged, or belongs to a training with other settings or of other weights.</exception>
    public int Load(string path) => TrainingCheckpoint.Load<Saved>(path, model, optimizer, saved =>
    {
        if (saved.Settings != settings)
        {
            throw new InputException($"'{path}' belongs to another training: {saved.Settings}; this one's is {settings}.");
        }

        if (saved.FrozenHash != frozenHash)
        {
            throw new InputException($"'{path}' holds adapters for other weights than this model's. Delete it to begin again.");
        }
    }, frozen).Step;

    public void Dispose() => optimizer.Dispose();

    /// <summary>What adapters belong to: adapters of other weights have the same shapes and would be taken without an error.</summary>
    private string FrozenHash()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var parameter in frozen.Select(name => model.get_parameter(name)!))
        {
            using var scope = NewDisposeScope();
            TensorPieces.Each(parameter.detach().cpu().contiguous(), piece => hash.AppendData(piece.bytes));
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private (double Loss, IReadOnlyList<LayerReport> Memories) Backpropagate(Tensor tokens)
    {
        using var stream = new SegmentStreamer(model);
        var loss = stream.Backpropagate(
            tokens.narrow(1, 0, settings.Length), tokens.narrow(1, 1, settings.Length),
            (logits, next) => nn.functional.cross_entropy(logits.transpose(1, 2), next, reduction: nn.Reduction.None)).Loss;
        return (loss, stream.Report());
    }

    /// <summary>The sequences of a step and the token after each, (Batch, Length + 1), from places that only the seed and the step decide.</summary>
    private Tensor Sequences(int step)
    {
        var random = new Random((settings.Seed * 1_000_003) + step);
        return stack([.. Enumerable.Range(0, settings.Batch).Select(_ => Sequence(random))]).to(int64).to(model.Head.device);
    }

    private Tensor Sequence(Random random)
    {
        var place = random.NextInt64(texts.Sum(Places));
        var text = 0;
        while (place >= Places(texts[text]))
        {
            place -= Places(texts[text++]);
        }

        return texts[text].narrow(0, place, settings.Length + 1);
    }

    private long Places(Tensor text) => text.size(0) - settings.Length;
}
