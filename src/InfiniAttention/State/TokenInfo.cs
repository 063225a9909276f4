using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What is known about each token of an input of B rows and T tokens. Each tensor is (B, T), on the input's device, and optional.</summary>
public sealed class TokenInfo
{
    /// <summary>
    /// bool, true for a token to ignore: it is never attended to and never written to the memory. Outputs at such tokens are finite.
    /// For a mask in which 1 means "keep" use <see cref="FromAttentionMask"/>.
    /// </summary>
    public Tensor? KeyPaddingMask { get; init; }

    /// <summary>
    /// bool, true if a new document begins at the token: nothing crosses such a start, neither in the local attention nor through the memory.
    /// </summary>
    public Tensor? DocumentStarts { get; init; }

    /// <summary>
    /// Floating point, finite and at least 0: how strongly a token is written to the memory. It scales the token's contributions to M
    /// and to z under both update rules; 0 writes nothing. Gradients flow to it. For finite gradients, weights other than 0 should not all be
    /// below 1e-5 (float32), because the gradients contain the square of the reciprocal of z.
    /// </summary>
    public Tensor? WriteWeights { get; init; }

    internal bool IsEmpty => KeyPaddingMask is null && DocumentStarts is null && WriteWeights is null;

    /// <summary>The padding of an attention mask as Hugging Face's tokenizers make it: 1 (or true) for a token to keep, 0 for padding.</summary>
    /// <param name="attentionMask">(B, T), bool or of an integer or floating point type, holding only 0 and 1.</param>
    /// <exception cref="ArgumentException">The mask has another rank, or holds other numbers.</exception>
    public static TokenInfo FromAttentionMask(Tensor attentionMask)
    {
        ArgumentNullException.ThrowIfNull(attentionMask);
        using var scope = NewDisposeScope();
        var isPadding = attentionMask.eq(Scalars.Zero);
        if (attentionMask.dim() != 2 || !Describe.AllTrue(isPadding.logical_or(attentionMask.eq(Scalars.One))))
        {
            throw new ArgumentException(
                $"attentionMask is {attentionMask.dtype} of shape {Describe.Shape(attentionMask)}; it must be (B, T) and hold 1 for a token to keep and 0 for padding, nothing else.",
                nameof(attentionMask));
        }

        return new() { KeyPaddingMask = isPadding.MoveToOuterDisposeScope() };
    }

    /// <summary>The tokens from <paramref name="start"/> on, <paramref name="length"/> of them, as views.</summary>
    internal TokenInfo Narrow(long start, long length) => new()
    {
        KeyPaddingMask = KeyPaddingMask?.narrow(1, start, length),
        DocumentStarts = DocumentStarts?.narrow(1, start, length),
        WriteWeights = WriteWeights?.narrow(1, start, length),
    };

    /// <summary>The same with another padding mask.</summary>
    internal TokenInfo WithPadding(Tensor padding) => new() { KeyPaddingMask = padding, DocumentStarts = DocumentStarts, WriteWeights = WriteWeights };

    /// <summary>
    /// Throws an <see cref="ArgumentException"/> unless this describes <paramref name="batch"/> rows of <paramref name="tokens"/> tokens, and its
    /// weights are finite in the memory's type.
    /// </summary>
    internal void Validate(long batch, long tokens, Device device, ScalarType? stateType = null)
    {
        Check(KeyPaddingMask, nameof(KeyPaddingMask), ScalarType.Bool);
        Check(DocumentStarts, nameof(DocumentStarts), ScalarType.Bool);
        Check(WriteWeights, nameof(WriteWeights), null);
        CheckRange(WriteWeights, nameof(WriteWeights));

        void Check(Tensor? tensor, string name, ScalarType? type)
        {
            if (tensor is null)
            {
                return;
            }

            if (!Describe.HasShape(tensor, batch, tokens))
            {
                throw new ArgumentException($"{name} has shape {Describe.Shape(tensor)}; it must be (B, T) = ({batch}, {tokens}), like the input.", name);
            }

            if (type is null ? !Describe.IsFloating(tensor.dtype) : tensor.dtype != type)
            {
                var advice = name == nameof(KeyPaddingMask) ? $" For a mask in which 1 means a token to keep use {nameof(TokenInfo)}.{nameof(FromAttentionMask)}." : "";
                throw new ArgumentException($"{name} has type {tensor.dtype}; it must be {(type is null ? "a floating point type" : "Bool")}.{advice}", name);
            }

            if (!Describe.Same(tensor.device, device))
            {
                throw new ArgumentException($"{name} is on {tensor.device}; it must be on {device}, like the input.", name);
            }
        }

        void CheckRange(Tensor? tensor, string name)
        {
            if (tensor is null)
            {
                return;
            }

            using var scope = NewDisposeScope();
            var weights = Describe.As(tensor.detach(), stateType ?? tensor.dtype);
            if (!Describe.AllTrue(weights.ge(Scalars.Zero).logical_and(weights.lt(Scalars.Infinity))))
            {
                throw new ArgumentException($"{name} holds a number that is negative, infinite or not a number; every weight must be finite and at least 0.", name);
            }
        }
    }
}
