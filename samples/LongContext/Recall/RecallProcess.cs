using System.Diagnostics;
using System.Globalization;

namespace LongContext.Recall;

/// <summary>A <see cref="RecallJob"/> in a process of its own: jobs side by side in one process would share libtorch's threads and a garbage collector.</summary>
public static class RecallProcess
{
    /// <summary>The hidden command that runs one job.</summary>
    public const string Command = "job";

    /// <summary>A line that the job prints after a step.</summary>
    public static string Line(RecallStep step) => string.Create(CultureInfo.InvariantCulture, $"{step.Step} {step.Steps} {step.Loss} {step.RecallLoss}");

    /// <summary>Runs the job and reports its steps.</summary>
    /// <exception cref="InvalidOperationException">The process failed; the message contains its error output.</exception>
    public static async Task Run(RecallJob job, HeldOut heldOut, Action<RecallStep> done, CancellationToken cancellation)
    {
        var (program, first) = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "LongContext"
            ? (path, Array.Empty<string>())
            : ("dotnet", [typeof(RecallProcess).Assembly.Location]);
        var start = new ProcessStartInfo(program, [
            .. first, "recall", Command, "--system", job.System, "--seed", $"{job.Seed}", "--tokens", $"{job.Tokens}", "--output", job.Folder,
            "--documents", $"{heldOut.Documents}", .. heldOut.ForChoosing ? ["--for-choosing"] : Array.Empty<string>(),
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
            throw new InvalidOperationException($"The training of {job.System} with seed {job.Seed} ended with exit code {process.ExitCode}: {await errors}");
        }
    }

    private static RecallStep? Parse(string line) => line.Split(' ') is [var step, var steps, var loss, var recall]
        && int.TryParse(step, CultureInfo.InvariantCulture, out var done) && int.TryParse(steps, CultureInfo.InvariantCulture, out var all)
        && double.TryParse(loss, CultureInfo.InvariantCulture, out var mean) && double.TryParse(recall, CultureInfo.InvariantCulture, out var recalled)
            ? new(done, all, mean, recalled)
            : null;
}
