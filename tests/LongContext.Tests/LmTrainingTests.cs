using LongContext.Comparison;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Tests;

/// <summary>The trainings of a comparison.</summary>
public sealed class LmTrainingTests : IDisposable
{
    private static readonly DecoderOptions Sizes = new() { Vocabulary = Chronicle.Vocabulary, Width = 16, Layers = 2, Heads = 2, HeadWidth = 8, SegmentLength = 128 };

    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("norm-delta")]
    [InlineData("rmt")]
    [InlineData("memorizing")]
    public void A_resumed_training_ends_as_one_that_was_not_interrupted(string system)
    {
        using var scope = NewDisposeScope();
        var experiment = new Experiment { Sizes = Sizes, Tokens = 8 * 2048 };
        var corpus = experiment.Open(folder.Path);
        var checkpoint = folder.File("checkpoint");

        manual_seed(1);
        using var whole = ComparedSystem.Named(system).Create(Sizes);
        using (var trainer = SystemTraining.OfSystem(whole, corpus, experiment, seed: 3, isLater: false))
        {
            trainer.Run(0, step =>
            {
                if (step == 4)
                {
                    TrainingCheckpoint.Save(checkpoint, new TrainingProgress(step, Seconds: 12), whole, trainer.Optimizer);
                }
            }, _ => { }, CancellationToken.None);
        }

        manual_seed(2);
        using var resumed = ComparedSystem.Named(system).Create(Sizes);
        using (var trainer = SystemTraining.OfSystem(resumed, corpus, experiment, seed: 3, isLater: false))
        {
            var (step, seconds) = TrainingCheckpoint.Load<TrainingProgress>(checkpoint, resumed, trainer.Optimizer);
            Assert.Equal((4, 12.0), (step, seconds));
            var steps = new List<int>();
            trainer.Run(step, _ => { }, done => steps.Add(done.Step), CancellationToken.None);
            Assert.Equal([5, 6, 7, 8], steps);
        }

        foreach (var (expected, actual) in whole.parameters().Zip(resumed.parameters()))
        {
            Assert.Equal(0, (expected - actual).abs().max().item<float>());
        }
    }

    [Fact]
    public void A_damaged_checkpoint_is_refused()
    {
        using var scope = NewDisposeScope();
        var experiment = new Experiment { Sizes = Sizes, Tokens = 2048 };
        using var model = ComparedSystem.Named("local").Create(Sizes);
        using var trainer = SystemTraining.OfSystem(model, experiment.Open(folder.Path), experiment, seed: 1, isLater: false);
        File.WriteAllText(folder.File("checkpoint"), "nothing");
        Assert.Contains("is not a checkpoint", Assert.Throws<InputException>(() => TrainingCheckpoint.Load<TrainingProgress>(folder.File("checkpoint"), model, trainer.Optimizer)).Message);
    }

    /// <summary>The base reads as many tokens a step whatever a system's step, so that it is the same one.</summary>
    [Fact]
    public void Documents_side_by_side_and_the_length_of_a_step_are_the_systems_alone()
    {
        Experiment usual = new() { Sizes = Sizes, Tokens = 8192, BaseTokens = 4096 }, other = usual with { Rows = 4, StepTokens = 256, StepsOfDocument = 8 };

        Assert.Equal(Steps(SystemTraining.OfBase, usual), Steps(SystemTraining.OfBase, other));
        Assert.Equal(usual.Tokens / 2048, Steps(OfSystem, usual).Count);
        var begun = Steps(OfSystem, other);
        Assert.Equal(other.Tokens / 1024, begun.Count);
        Assert.Equal([0], begun.Index().Where(step => step.Item.Begins).Select(step => step.Index)); // one document of 8 steps

        static SystemTraining OfSystem(ContextDecoder model, Corpus corpus, Experiment experiment, int seed) => SystemTraining.OfSystem(model, corpus, experiment, seed, isLater: false);

        List<(bool Begins, double Loss)> Steps(Func<ContextDecoder, Corpus, Experiment, int, SystemTraining> create, Experiment experiment)
        {
            manual_seed(1);
            using var model = ComparedSystem.Named("norm-delta").Create(Sizes);
            using var training = create(model, experiment.Open(folder.Path), experiment, 1);
            var (steps, begins) = (new List<(bool, double)>(), false);
            training.Run(0, _ => begins = true, step =>
            {
                steps.Add((begins, step.Loss));
                begins = false;
            }, CancellationToken.None);
            return steps;
        }
    }

    /// <summary>In one step the gradient is that of the ordinary graph of each sequence, read from an empty memory.</summary>
    [Theory]
    [InlineData(1024)]
    [InlineData(16 * 1024)]
    public void A_step_over_sequences_has_the_gradient_of_their_mean_loss(int length)
    {
        using var scope = NewDisposeScope();
        var experiment = new Experiment { Sizes = Sizes with { Layers = 1, Width = 8, Heads = 1 }, Tokens = SequenceTraining.StepTokens };
        var corpus = experiment.Open(folder.Path);
        manual_seed(4);
        using var model = ComparedSystem.Named("norm-delta").Create(experiment.Sizes);
        using var training = new SequenceTraining(model, corpus, experiment, seed: 5, length);

        DocumentBatch document = new([corpus.Training(5, 0, SequenceTraining.StepTokens + 1)]);
        var (expected, losses) = (0.0, new List<Tensor>());
        for (var start = 0; start < SequenceTraining.StepTokens; start += length)
        {
            using var part = NewDisposeScope();
            model.Forget();
            DocumentBatch sequence = new([new Document(document[0].Tokens.Slice(start, length + 1))]);
            var loss = nn.functional.cross_entropy(model.call(sequence.Inputs(0, length)).flatten(0, 1), sequence.Targets(0, length).flatten(), reduction: nn.Reduction.Sum);
            expected += loss.item<float>() / SequenceTraining.StepTokens;
            loss.div(SequenceTraining.StepTokens).backward();
        }

        model.Forget();
        var gradients = model.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.grad!.clone());
        var norm = Math.Sqrt(gradients.Values.Sum(gradient => gradient.square().sum().item<float>()));
        var before = model.named_parameters().ToDictionary(entry => entry.name, entry => entry.parameter.detach().clone());
        TrainingStep done = default;
        training.Run(0, _ => { }, step => done = step, CancellationToken.None);

        Assert.Equal(1, done.Steps);
        Assert.Equal(expected, done.Loss, 1e-4);
        foreach (var (name, parameter) in model.named_parameters())
        {
            var clipped = gradients[name] / Math.Max(1, norm); // as clip_grad_norm_ left it
            Assert.True((parameter.grad! - clipped).abs().max().item<float>() < 1e-4 * Math.Max(1, clipped.abs().max().item<float>()), name);
            Assert.NotEqual(0, (parameter - before[name]).abs().max().item<float>());
        }
    }

    /// <summary>A loss that is no number ends the training.</summary>
    [Fact]
    public void A_training_that_diverges_ends_with_a_sentence()
    {
        using var scope = NewDisposeScope();
        var experiment = new Experiment { Sizes = Sizes, Tokens = 64 * 2048, Rate = 1 };
        using var model = ComparedSystem.Named("local").Create(Sizes);
        using (no_grad())
        {
            model.parameters().First().fill_(float.NaN);
        }

        using var training = SystemTraining.OfSystem(model, experiment.Open(folder.Path), experiment, seed: 1, isLater: false);
        var message = Assert.Throws<InputException>(() => training.Run(0, _ => { }, _ => { }, CancellationToken.None)).Message;
        Assert.Contains("The loss of step 1 is NaN", message);
    }

    /// <summary>An interrupt in another process of the group ends the training in this one, which then keeps its checkpoint and writes no weights.</summary>
    [Fact]
    public void A_training_that_another_process_interrupts_is_not_taken_for_finished()
    {
        var small = Sizes with { Layers = 1, Width = 8, Heads = 1 };
        new Experiment { Sizes = small, Tokens = SequenceTraining.StepTokens, BaseTokens = 2048, HeldOutTokens = 1024 }.Claim(folder.Path);
        ComparisonJob.Base(folder.Path).Run(_ => { }, null, CancellationToken.None);
        var job = new ComparisonJob(folder.Path, "paper", 1);
        job.Run(_ => { }, null, CancellationToken.None);
        var longer = job with { System = "paper@16K" };

        longer.Run(_ => Assert.Fail("a step was taken"), null, CancellationToken.None, new InterruptedGroup());

        Assert.True(job.IsFinished);
        Assert.False(longer.IsFinished);
        Assert.False(File.Exists(longer.Weights));
    }

    /// <summary>A group of one process, in which another one is always interrupted.</summary>
    private sealed class InterruptedGroup : InfiniAttention.ISequenceGroup
    {
        public int Rank => 0;

        public int Size => 1;

        public void Sum(Tensor x) => x.fill_(1);

        public Task ExclusiveSum(Tensor x, Tensor sum, bool fromLast = false) => throw new NotSupportedException();

        public void Send(Tensor x, int rank) => throw new NotSupportedException();

        public void Receive(Tensor x, int rank) => throw new NotSupportedException();

        public void Broadcast(Tensor x, int rank) => throw new NotSupportedException();
    }
}
