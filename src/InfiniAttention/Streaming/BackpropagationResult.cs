namespace InfiniAttention;

/// <summary>How the losses of single tokens become one.</summary>
public enum LossReduction
{
    /// <summary>The mean over all targets that count, of the whole input, not of each window.</summary>
    Mean,

    /// <summary>The sum over all targets that count.</summary>
    Sum,
}

/// <summary>What <see cref="SegmentStreamer.Backpropagate"/> computed.</summary>
/// <param name="Loss">The loss over the whole input, reduced as was asked.</param>
/// <param name="Count">How many targets count.</param>
public readonly record struct BackpropagationResult(double Loss, long Count);
