namespace LongContext.Passkey;

/// <summary>A stage of the training: it ends when the smoothed accuracy of the digits reaches <paramref name="PassAccuracy"/>.</summary>
public sealed record Stage(SampleSettings Samples, double PassAccuracy);

/// <summary>
/// Goes from one segment, where the key is learned by local attention alone (all heads are local while the memory is empty), to
/// 40 segments, where it is found through the memory. The last stage ends, passed or not, with a linear decay of the learning rates.
/// </summary>
public static class Curriculum
{
    public const int WarmUpSteps = 50, DecaySteps = 2400, LeastStepsInStage = 60, LeastStepsInLastStage = 600, MostStepsInLastStage = 1000;
    public const double FinalRate = 0.02;
    private const double Smoothing = 0.97;

    public static IReadOnlyList<Stage> Stages { get; } =
    [
        new(new SampleSettings { Segments = 1 }, 0.7),
        new(new SampleSettings { Segments = 2, WeightedShare = 0.7 }, 0.7),
        new(new SampleSettings { Segments = 4, WeightedShare = 0.7, AcrossBoundaries = true, PeriodicShare = 0.4 }, 0.9),
        new(new SampleSettings { Segments = 10, WeightedShare = 0.7, AcrossBoundaries = true, PeriodicShare = 0.4 }, 0.9),
        new(new SampleSettings { Segments = 40, WeightedShare = 0.7, AcrossBoundaries = true, PeriodicShare = 0.4 }, 0.9),
    ];

    /// <summary>The longest input of the whole training, in segments.</summary>
    public static int LongestInput => Stages.Max(stage => stage.Samples.Segments);

    /// <summary>The progress of a training run.</summary>
    public sealed record Standing(int Step = 0, int Stage = 0, int StepsInStage = 0, double Accuracy = 0, int? DecayFrom = null)
    {
        public bool IsFinished => DecayFrom is { } from && Step >= from + DecaySteps;

        /// <summary>The factor of the learning rates in the next step.</summary>
        public double Rate => DecayFrom is { } from
            ? Math.Max(FinalRate, 1 - (1 - FinalRate) * (Step + 1 - from) / DecaySteps)
            : Math.Min(1, (Step + 1.0) / WarmUpSteps);

        /// <summary>The progress after a step in which <paramref name="accuracy"/> of the digits were right.</summary>
        public Standing After(double accuracy)
        {
            var next = this with
            {
                Step = Step + 1,
                StepsInStage = StepsInStage + 1,
                Accuracy = Step == 0 ? accuracy : Smoothing * Accuracy + (1 - Smoothing) * accuracy,
            };
            if (DecayFrom is not null)
            {
                return next;
            }

            var isPassed = next.Accuracy > Stages[Stage].PassAccuracy;
            if (Stage < Stages.Count - 1)
            {
                return isPassed && next.StepsInStage >= LeastStepsInStage ? next with { Stage = Stage + 1, StepsInStage = 0, Accuracy = next.Accuracy / 2 } : next;
            }

            return (isPassed && next.StepsInStage >= LeastStepsInLastStage) || next.StepsInStage >= MostStepsInLastStage ? next with { DecayFrom = next.Step } : next;
        }
    }
}
