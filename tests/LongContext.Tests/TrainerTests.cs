using InfiniAttention;
using LongContext.Passkey;

namespace LongContext.Tests;

public sealed class TrainerTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(MemoryUpdate.Linear)]
    [InlineData(MemoryUpdate.Delta)]
    public void A_resumed_training_ends_where_an_uninterrupted_one_does(MemoryUpdate rule)
    {
        var settings = new TrainingSettings { Rule = rule, Seed = 3 };
        using var whole = new Trainer(settings);
        Run(whole, steps: 4);

        using (var interrupted = new Trainer(settings))
        {
            Run(interrupted, steps: 2);
            interrupted.SaveCheckpoint(folder.File("checkpoint"), seconds: 12);
        }
        using var resumed = new Trainer(settings);
        resumed.Resume(folder.File("checkpoint"));
        Assert.Equal(2, resumed.Standing.Step);
        var seconds = Run(resumed, steps: 2);

        Assert.True(seconds > 12);
        Assert.Equal(whole.Standing, resumed.Standing);
        var weights = resumed.Model.state_dict();
        foreach (var (name, weight) in whole.Model.state_dict())
        {
            Assert.Equal(weight.detach().data<float>().ToArray(), weights[name].detach().data<float>().ToArray());
        }
    }

    [Fact]
    public void The_loss_falls()
    {
        using var trainer = new Trainer(new TrainingSettings());
        var losses = new List<double>();
        using var cancellation = new CancellationTokenSource();

        trainer.Run(step =>
        {
            losses.Add(step.Loss);
            if (losses.Count == 12)
            {
                cancellation.Cancel();
            }
        }, cancellation.Token);

        Assert.True(losses[^1] < 0.93 * losses[0], $"the loss fell only from {losses[0]} to {losses[^1]}");
    }

    [Fact]
    public void A_checkpoint_of_another_training_run_is_refused()
    {
        using var trainer = new Trainer(new TrainingSettings { Seed = 1 });
        trainer.SaveCheckpoint(folder.File("checkpoint"), 0);

        using var other = new Trainer(new TrainingSettings { Seed = 2 });

        Assert.Contains("belongs to another run", Assert.Throws<InputException>(() => other.Resume(folder.File("checkpoint"))).Message);
        Assert.Contains("There is no checkpoint", Assert.Throws<InputException>(() => other.Resume(folder.File("none"))).Message);
        File.WriteAllText(folder.File("letter"), "hello");
        Assert.Contains("is not a checkpoint", Assert.Throws<InputException>(() => other.Resume(folder.File("letter"))).Message);
    }

    private static double Run(Trainer trainer, int steps)
    {
        using var cancellation = new CancellationTokenSource();
        var (last, seconds) = (trainer.Standing.Step + steps, 0.0);
        trainer.Run(step =>
        {
            seconds = step.Seconds;
            if (step.Standing.Step == last)
            {
                cancellation.Cancel();
            }
        }, cancellation.Token);
        return seconds;
    }
}
