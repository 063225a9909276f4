namespace InfiniAttention;

/// <summary>How the losses of the tokens are combined.</summary>
public enum LossReduction
{
    /// <summary>The mean over all targets that count, of the whole input rather than of each window.</summary>
    Mean,

    /// <summary>The sum over all targets that count.</summary>
    Sum,
}

/// <summary>What <see cref="SegmentStreamer.Backpropagate"/> computed.</summary>
/// <param name="Loss">The loss over the whole input, with the requested reduction.</param>
/// <param name="Count">How many targets count.</param>
public readonly record struct BackpropagationResult(double Loss, long Count);
