namespace InfiniAttention;

/// <summary>Which elements of a head form the pairs that a rotary embedding rotates.</summary>
public enum RotaryPairing
{
    /// <summary>Element i with element i + K/2 (GPT-NeoX, Hugging Face's LLaMA).</summary>
    Halves,

    /// <summary>Element 2i with element 2i + 1 (the original LLaMA weights, GPT-J).</summary>
    Interleaved,
}

/// <summary>A rotary position embedding of the local attention's queries and keys; the memory has no positions.</summary>
/// <param name="Theta">Base of the frequencies, greater than 0: pair i of a rotated width W turns by Theta^(-2i/W) a token.</param>
/// <param name="Pairing">Which elements form pairs.</param>
/// <param name="Width">How many of a head's elements are rotated, counted from the first (Phi-2 rotates 32 of 80); even. Default: all.</param>
public sealed record RotaryOptions(double Theta = 10000.0, RotaryPairing Pairing = RotaryPairing.Halves, long? Width = null)
{
    /// <summary>How the frequencies are scaled, for a model that was trained so, or the frequencies themselves (<see cref="GivenRotaryFrequencies"/>). Default: not at all.</summary>
    public RotaryScaling? Scaling { get; init; }

    /// <summary>Throws an <see cref="ArgumentException"/> if the options are invalid for heads of the given width.</summary>
    internal void Validate(long keyWidth)
    {
        OptionChecks.Require(Width is not null || keyWidth % 2 == 0, nameof(InfiniAttentionOptions.HeadDim), keyWidth, "an even number, because Rotary rotates pairs of elements");
        OptionChecks.Require(Width is null || (Width >= 2 && Width <= keyWidth && Width % 2 == 0), nameof(Width), Width, $"an even number from 2 to the width of a head ({keyWidth})");
        OptionChecks.Positive(Theta, nameof(Theta));
        OptionChecks.Require(Enum.IsDefined(Pairing), nameof(Pairing), Pairing, "Halves or Interleaved");
        Scaling?.Validate((Width ?? keyWidth) / 2);
    }
}
