using System.Diagnostics;
using InfiniAttention;
using LongContext.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Passkey;

/// <summary>The settings of a training run.</summary>
public sealed record TrainingSettings
{
    public MemoryUpdate Rule { get; init; }
    public int Seed { get; init; } = 1;
    public MemoryVariant Memory { get; init; } = MemoryVariant.Paper;

    /// <summary>Whether the write weights of filler are multiplied in some of the samples, so that short inputs stand for long ones. The paper does not do this.</summary>
    public bool WeighsFiller { get; init; } = true;

    /// <summary>Further texts in which keys are hidden; without any, all other text is generated.</summary>
    public IReadOnlyList<Haystack> Books { get; init; } = [];

    public Device Device { get; init; } = CPU;
}

/// <summary>The results of a step.</summary>
public sealed record TrainingStep(Curriculum.Standing Standing, double Loss, double DigitLoss, double Seconds);

/// <summary>Trains a <see cref="PasskeyModel"/> to find keys, from scratch. The same seed draws the same samples, also after a run is resumed.</summary>
public sealed class Trainer : IDisposable
{
    private const double LearningRate = 5e-3, GateLearningRate = 5e-3, LargestGradient = 1;
    private const int BatchTokens = 4096, LongestEvery = 4;

    private readonly TrainingSettings settings;
    private readonly TrainingSamples samples;
    private readonly AdamW optimizer;
    private double secondsBefore;

    public Trainer(TrainingSettings settings)
    {
        this.settings = settings;
        manual_seed(settings.Seed);
        set_num_threads(1); // the kernels are too small to split across threads: a second core is better used for the other rule
        Model = new PasskeyModel { Update = settings.Rule, Memory = settings.Memory }.Create();
        Model.to(settings.Device);
        samples = new TrainingSamples((int)Model.Attention.SegmentLength, BatchTokens, settings.Books);
        optimizer = optim.AdamW(
        [
            new AdamW.ParamGroup(InfiniAttentionModule.OtherParameters(Model), new AdamW.Options { LearningRate = LearningRate }),
            new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(Model), new AdamW.Options { LearningRate = GateLearningRate }),
        ], beta1: 0.9, beta2: 0.98);
    }

    public Decoder Model { get; }

    public Curriculum.Standing Standing { get; private set; } = new();

    /// <summary>Trains to the end of the curriculum, or until cancelled.</summary>
    /// <param name="stepDone">Called after each step; it may save a checkpoint.</param>
    /// <param name="cancellation">Ends the training between two steps.</param>
    public void Run(Action<TrainingStep> stepDone, CancellationToken cancellation)
    {
        var watch = Stopwatch.StartNew();
        while (!Standing.IsFinished && !cancellation.IsCancellationRequested)
        {
            var (loss, digitLoss, accuracy) = Step();
            Standing = Standing.After(accuracy);
            stepDone(new TrainingStep(Standing, loss, digitLoss, secondsBefore + watch.Elapsed.TotalSeconds));
        }
    }

    /// <summary>Writes the weights, the optimiser's state and the progress, so that <see cref="Resume"/> continues as if the run had not stopped.</summary>
    public void SaveCheckpoint(string path, double seconds) => Checkpoint.Save(path, Model, optimizer, settings, Standing, seconds);

    public void Resume(string path) => (Standing, secondsBefore) = Checkpoint.Load(path, Model, optimizer, settings);

    public void Dispose()
    {
        optimizer.Dispose();
        Model.Dispose();
    }

    private (double Loss, double DigitLoss, double Accuracy) Step()
    {
        using var scope = NewDisposeScope();
        var stage = Curriculum.Stages[Standing.Stage].Samples;
        stage = settings.WeighsFiller ? stage : stage with { WeightedShare = 0 };
        var random = new Random(unchecked(settings.Seed * 1_000_003 + Standing.Step) & int.MaxValue);
        var batch = samples.Draw(random, stage, longest: Standing.Step % LongestEvery == 0);
        var tokens = tensor(batch.Tokens, batch.Rows, batch.Length).to(settings.Device);
        var weights = tensor(batch.WriteWeights, batch.Rows, batch.Length).to(settings.Device);
        var (read, next) = (batch.Length - 1, tokens.narrow(1, 1, batch.Length - 1)); // the last token is only an answer

        using var streamer = new SegmentStreamer(Model);
        var logits = streamer.Forward(tokens.narrow(1, 0, read), new TokenInfo { WriteWeights = weights.narrow(1, 0, read) });
        var losses = nn.functional.cross_entropy(logits.reshape(-1, Model.Config.Vocabulary), next.reshape(-1), reduction: nn.Reduction.None)
            .view(batch.Rows, read);
        var digits = read - PasskeyPrompt.KeyDigits;
        var digitLoss = losses.narrow(1, digits, PasskeyPrompt.KeyDigits).mean();
        var loss = digitLoss + losses.mean();

        optimizer.zero_grad();
        loss.backward();
        foreach (var group in optimizer.ParamGroups)
        {
            group.LearningRate = group.InitialLearningRate * Standing.Rate;
        }

        nn.utils.clip_grad_norm_(Model.parameters(), LargestGradient);
        optimizer.step();

        var answers = logits.detach().narrow(1, digits, PasskeyPrompt.KeyDigits).argmax(-1);
        var right = answers.eq(next.narrow(1, digits, PasskeyPrompt.KeyDigits)).to(ScalarType.Float32).mean();
        return (loss.item<float>(), digitLoss.item<float>(), right.item<float>());
    }
}
