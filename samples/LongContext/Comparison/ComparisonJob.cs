using InfiniAttention;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>One training of an experiment and its evaluation. It runs in a process of its own.</summary>
/// <param name="Folder">The folder of the experiment, in which weights and result are kept.</param>
/// <param name="System">Its name.</param>
/// <param name="Seed">The seed of its new weights, and of its documents.</param>
public sealed record ComparisonJob(string Folder, string System, int Seed)
{
    /// <summary>All systems and seeds begin with one base.</summary>
    private const int BaseSeed = 1;

    private static readonly TimeSpan CheckpointEvery = TimeSpan.FromSeconds(30);

    /// <summary>The training of the base.</summary>
    public static ComparisonJob Base(string folder) => new(folder, ComparedSystem.Base.Name, BaseSeed);

    /// <summary>Whether weights and result are in the folder; the base has no result.</summary>
    public bool IsFinished => File.Exists(Weights) && (IsBase || ComparisonResult.Load(Folder, System, Seed) is not null);

    public string Weights => Path.Combine(Folder, $"{System}-{Seed}.weights");

    private bool IsBase => System == ComparedSystem.Base.Name;

    private string Checkpoint => Path.Combine(Folder, $"{System}-{Seed}.checkpoint");

    /// <summary>The job whose weights it starts from; null for the base.</summary>
    public ComparisonJob? Before(Experiment experiment) =>
        IsBase ? null
        : ComparedSystem.Named(System).After is { } after ? this with { System = after }
        : experiment.From is { } folder ? this with { Folder = folder }
        : Base(Folder);

    /// <summary>How many tokens it reads.</summary>
    public long TokensOf(Experiment experiment)
    {
        var system = ComparedSystem.Named(System);
        return IsBase ? experiment.BaseTokens : system.After is null || system.SequenceTokens is not null ? experiment.Tokens : experiment.Tokens / 3;
    }

    /// <summary>How many tokens a step reads.</summary>
    public long TokensOfStep(Experiment experiment) =>
        IsBase ? SystemTraining.BaseStepTokens : ComparedSystem.Named(System).SequenceTokens is null ? experiment.Rows * experiment.StepTokens : SequenceTraining.StepTokens;

    /// <summary>Trains, or goes on with a training that was interrupted, and writes weights and result.</summary>
    /// <param name="done">Called after each step.</param>
    /// <param name="log">A folder for TensorBoard; null for none.</param>
    /// <param name="cancellation">Ends the training; its last checkpoint stays.</param>
    /// <param name="group">Processes that run the same job and share its sequences; the first alone writes.</param>
    public void Run(Action<TrainingStep> done, string? log, CancellationToken cancellation, ISequenceGroup? group = null)
    {
        var writes = group is null or { Rank: 0 };
        set_num_threads(1); // the kernels are too small to split across threads, and several jobs run in parallel
        manual_seed(Seed);
        var experiment = Experiment.Load(Folder);
        var (corpus, system) = (experiment.Open(Folder), ComparedSystem.Named(System));
        using var model = system.Create(experiment.Sizes);
        if (Before(experiment) is { } before)
        {
            using var trained = ComparedSystem.Named(before.System).Create(experiment.Sizes);
            trained.load(before.Weights);
            model.Take(trained);
        }

        using var trainer = Trainer(model, corpus, experiment, system, group);
        var board = log is null || !writes ? null : new TrainingLog(Path.Combine(log, $"{System}-{Seed}"));
        var (first, secondsBefore) = File.Exists(Checkpoint) ? TrainingCheckpoint.Load<TrainingProgress>(Checkpoint, model, trainer.Optimizer) : new(0, 0);
        var clock = new TrainingClock(CheckpointEvery, secondsBefore);
        var next = trainer.Run(first, Keep, step =>
        {
            board?.Add(step, model);
            done(step);
        }, cancellation);
        if (next < trainer.Steps || !writes) // interrupted, perhaps in another process of the group
        {
            return;
        }

        var seconds = clock.Seconds;
        AtomicFile.Write(Weights, file =>
        {
            using var writer = new BinaryWriter(file, global::System.Text.Encoding.UTF8, leaveOpen: true);
            model.save(writer);
        });
        if (!IsBase)
        {
            ComparisonResult.Of(this, model, experiment, corpus, seconds).Save(Folder);
        }

        File.Delete(Checkpoint);

        void Keep(int step)
        {
            if (writes)
            {
                clock.Checkpoint(() => TrainingCheckpoint.Save(Checkpoint, new TrainingProgress(step, clock.Seconds), model, trainer.Optimizer));
            }
        }
    }

    private Training Trainer(ContextDecoder model, Corpus corpus, Experiment experiment, ComparedSystem system, ISequenceGroup? group) => (IsBase, system.SequenceTokens) switch
    {
        (true, _) => SystemTraining.OfBase(model, corpus, experiment, Seed),
        (_, { } length) => new SequenceTraining(model, corpus, experiment, Seed, length, group),
        _ => SystemTraining.OfSystem(model, corpus, experiment, Seed, system.After is not null),
    };
}
