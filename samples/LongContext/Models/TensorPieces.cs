using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>The bytes of a tensor in pieces, because no span holds more than 2 GiB.</summary>
internal static class TensorPieces
{
    private const long PieceBytes = 1 << 26;

    /// <summary>Calls an action with each part of a contiguous tensor on the CPU, in order.</summary>
    public static void Each(Tensor tensor, Action<Tensor> action)
    {
        using var flat = tensor.view(-1);
        var length = PieceBytes / tensor.ElementSize;
        for (var start = 0L; start < flat.NumberOfElements; start += length)
        {
            using var piece = flat.narrow(0, start, Math.Min(length, flat.NumberOfElements - start));
            action(piece);
        }
    }
}
