using System.CommandLine;
using InfiniAttention;
using LongContext.Comparison;
using Spectre.Console;

namespace LongContext.Lm;

/// <summary><c>lm spread</c>: what <c>lm lengths</c> does with one length, with each sequence spread over the processes of an MPI job.</summary>
public static class SpreadCommand
{
    public static Command Create()
    {
        var system = new Option<string>("--system") { Description = "The trained system that is continued, one with Infini-attention.", DefaultValueFactory = _ => "norm-delta" };
        var length = new Option<string>("--length") { Description = "Tokens of a sequence.", DefaultValueFactory = _ => "64K" };
        var seed = new Option<int>("--seed") { Description = "The seed.", DefaultValueFactory = _ => 1 };
        var log = new Option<string?>("--log") { Description = "A folder for TensorBoard's logs." };
        var folder = LmOptions.OutputOption();
        var command = new Command("spread", "Continues a trained system with gradients through whole sequences, each spread over the processes of an MPI job: mpiexec -n 4 ./run.sh lm spread.")
        {
            system, length, seed, log, folder,
        };
        command.SetAction((arguments, cancellation) => Task.Run(() =>
        {
            var before = ComparedSystem.Named(arguments.GetValue(system)!);
            var job = new ComparisonJob(arguments.GetValue(folder)!.FullName, before.AtLength(TokenCount.Parse(arguments.GetValue(length)!)).Name, arguments.GetValue(seed));
            if (!job.Before(Experiment.Load(job.Folder))!.IsFinished)
            {
                throw new InputException($"{before.Name} with seed {job.Seed} was not trained in '{job.Folder}': train it with lm train.");
            }

            if (job.IsFinished)
            {
                throw new InputException($"{job.System} with seed {job.Seed} was trained in '{job.Folder}' before.");
            }

            return MpiSequenceGroup.Run(group =>
            {
                Train(job, arguments.GetValue(log), group, cancellation);
                return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
            });
        }));
        return command;
    }

    private static void Train(ComparisonJob job, string? log, MpiSequenceGroup group, CancellationToken cancellation)
    {
        if (group.Rank > 0)
        {
            job.Run(_ => { }, log, cancellation, group);
            return;
        }

        AnsiConsole.WriteLine($"{job.System}: each sequence over {group.Size} {(group.Size == 1 ? "process" : "processes")}");
        AnsiConsole.Progress().Start(display =>
        {
            var bar = display.AddTask(job.System);
            job.Run(
                step =>
                {
                    (bar.MaxValue, bar.Value) = (step.Steps, step.Step);
                    bar.Description = Markup.Escape($"{job.System}: loss {step.Loss:0.000}");
                },
                log, cancellation, group);
        });
        if (!cancellation.IsCancellationRequested)
        {
            AnsiConsole.Write(new LmReport([ComparisonResult.Load(job.Folder, job.System, job.Seed)!]).ToTable());
        }
    }
}
