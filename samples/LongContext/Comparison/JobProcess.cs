using System.CommandLine;
using System.Diagnostics;
using System.Globalization;

namespace LongContext.Comparison;

/// <summary>A <see cref="ComparisonJob"/> in a process of its own: jobs side by side in one process would share libtorch's threads and a garbage collector.</summary>
public static class JobProcess
{
    private const string Name = "comparison-job";

    /// <summary>The hidden command that runs one job.</summary>
    public static Command Create()
    {
        var folder = new Option<string>("--output") { Required = true };
        var system = new Option<string>("--system") { Required = true };
        var seed = new Option<int>("--seed") { Required = true };
        var log = new Option<string?>("--log");
        var command = new Command(Name, "Runs one training of a comparison; started by 'recall' and 'lm'.") { folder, system, seed, log };
        command.Hidden = true;
        command.SetAction((arguments, cancellation) => Task.Run(() =>
        {
            var job = new ComparisonJob(arguments.GetValue(folder)!, arguments.GetValue(system)!, arguments.GetValue(seed));
            job.Run(step => Console.WriteLine(Line(step)), arguments.GetValue(log), cancellation);
            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        }));
        return command;
    }

    /// <summary>Runs the job and reports its steps.</summary>
    /// <exception cref="InputException">The process refused its input; the message is its own.</exception>
    /// <exception cref="InvalidOperationException">The process failed; the message contains its error output.</exception>
    public static async Task Run(ComparisonJob job, string? log, Action<TrainingStep> done, CancellationToken cancellation)
    {
        var (program, first) = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "LongContext"
            ? (path, Array.Empty<string>())
            : ("dotnet", [typeof(JobProcess).Assembly.Location]);
        var start = new ProcessStartInfo(program, [
            .. first, Name, "--output", job.Folder, "--system", job.System, "--seed", $"{job.Seed}", .. log is null ? Array.Empty<string>() : ["--log", log],
        ])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        await using var end = cancellation.Register(() => process.Kill());
        var errors = process.StandardError.ReadToEndAsync(CancellationToken.None);
        while (await process.StandardOutput.ReadLineAsync(CancellationToken.None) is { } line)
        {
            if (Parse(line) is { } step)
            {
                done(step);
            }
        }

        await process.WaitForExitAsync(CancellationToken.None);
        if (process.ExitCode != 0 && !cancellation.IsCancellationRequested)
        {
            if (process.ExitCode == Cli.Failure)
            {
                throw new InputException($"{job.System}, seed {job.Seed}: {(await errors).Trim()}");
            }

            throw new InvalidOperationException($"The training of {job.System} with seed {job.Seed} ended with exit code {process.ExitCode}: {await errors}");
        }
    }

    /// <summary>A line that the job prints after a step.</summary>
    private static string Line(TrainingStep step) => string.Create(CultureInfo.InvariantCulture, $"{step.Step} {step.Steps} {step.Loss} {step.RecallLoss}");

    private static TrainingStep? Parse(string line) => line.Split(' ') is [var step, var steps, var loss, var recall]
        && int.TryParse(step, CultureInfo.InvariantCulture, out var done) && int.TryParse(steps, CultureInfo.InvariantCulture, out var all)
        && double.TryParse(loss, CultureInfo.InvariantCulture, out var mean) && double.TryParse(recall, CultureInfo.InvariantCulture, out var recalled)
            ? new(done, all, mean, recalled)
            : null;
}
