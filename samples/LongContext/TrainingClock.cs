using System.Diagnostics;

namespace LongContext;

/// <summary>How long a training has taken, before interruptions too, and when its next checkpoint is due.</summary>
/// <param name="checkpointEvery">The time between two checkpoints.</param>
/// <param name="secondsBefore">What it took before it was interrupted.</param>
internal sealed class TrainingClock(TimeSpan checkpointEvery, double secondsBefore = 0)
{
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private TimeSpan saved;

    public double Seconds => secondsBefore + clock.Elapsed.TotalSeconds;

    /// <summary>Saves if it is time to.</summary>
    public void Checkpoint(Action save)
    {
        if (clock.Elapsed - saved > checkpointEvery)
        {
            save();
            saved = clock.Elapsed;
        }
    }
}
