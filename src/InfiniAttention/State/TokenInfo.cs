using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>What is known of each token of an input of B rows and T tokens. Each tensor is (B, T), on the input's device, and optional.</summary>
/// <param name="KeyPaddingMask">
/// bool, true for a token to ignore: it is never attended and never written to the memory. Outputs at such tokens are finite.
/// </param>
/// <param name="DocumentStarts">
/// bool, true where a new document begins: nothing crosses such a start, neither in the local attention nor through the memory.
/// </param>
/// <param name="WriteWeights">
/// floating point, finite and at least 0: how strongly a token is written to the memory. It scales the token's contributions to M and
/// to z under both update rules; 0 writes nothing. Gradients flow to it; for them weights that are not 0 should not all be
/// below 1e-5 (float32), because they contain the square of the reciprocal of z.
/// </param>
public sealed record TokenInfo(Tensor? KeyPaddingMask = null, Tensor? DocumentStarts = null, Tensor? WriteWeights = null)
{
    internal bool IsEmpty => KeyPaddingMask is null && DocumentStarts is null && WriteWeights is null;

    /// <summary>The tokens from <paramref name="start"/> on, <paramref name="length"/> of them, as views.</summary>
    internal TokenInfo Narrow(long start, long length) => new(
        KeyPaddingMask?.narrow(1, start, length),
        DocumentStarts?.narrow(1, start, length),
        WriteWeights?.narrow(1, start, length));

    /// <summary>Throws an <see cref="ArgumentException"/> unless this describes <paramref name="batch"/> rows of <paramref name="tokens"/> tokens, and its weights are finite in the memory's type.</summary>
    internal void Validate(long batch, long tokens, Device device, ScalarType? stateType = null)
    {
        Check(KeyPaddingMask, nameof(KeyPaddingMask), ScalarType.Bool);
        Check(DocumentStarts, nameof(DocumentStarts), ScalarType.Bool);
        Check(WriteWeights, nameof(WriteWeights), null);
        CheckRange(WriteWeights, nameof(WriteWeights));

        void CheckRange(Tensor? tensor, string name)
        {
            if (tensor is null)
            {
                return;
            }

            using var scope = NewDisposeScope();
            var weights = tensor.detach().to(stateType ?? tensor.dtype);
            if (!((weights >= Scalars.Zero) & (weights < Scalars.Infinity)).all().item<bool>())
            {
                throw new ArgumentException($"{name} holds a number that is negative, infinite or not a number; every weight must be finite and at least 0.", name);
            }
        }

        void Check(Tensor? tensor, string name, ScalarType? type)
        {
            if (tensor is null)
            {
                return;
            }

            var shape = tensor.shape;
            if (shape.Length != 2 || shape[0] != batch || shape[1] != tokens)
            {
                throw new ArgumentException($"{name} has shape {Describe.Shape(tensor)}; it must be (B, T) = ({batch}, {tokens}), like the input.", name);
            }

            if (type is null ? !Describe.IsFloating(tensor.dtype) : tensor.dtype != type)
            {
                throw new ArgumentException($"{name} has type {tensor.dtype}; it must be {(type is null ? "a floating point type" : "Bool")}.", name);
            }

            if (!Describe.Same(tensor.device, device))
            {
                throw new ArgumentException($"{name} is on {tensor.device}; it must be on {device}, like the input.", name);
            }
        }
    }
}
