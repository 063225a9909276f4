using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Checks of masks and indices of a state's rows.</summary>
internal static class StateRows
{
    /// <summary>Throws unless <paramref name="rows"/> is a mask of the rows.</summary>
    public static void CheckMask(Tensor rows, long batch, Device device)
    {
        ArgumentNullException.ThrowIfNull(rows);
        if (rows.dtype != ScalarType.Bool || !Describe.HasShape(rows, batch) || !Describe.Same(rows.device, device))
        {
            throw new ArgumentException(
                $"rows is {rows.dtype} of shape {Describe.Shape(rows)} on {rows.device}; it must be Bool of shape (B) = ({batch}) on {device}.", nameof(rows));
        }
    }

    /// <summary>Throws unless <paramref name="indices"/> is a list of row indices.</summary>
    public static void CheckIndices(Tensor indices, long batch, Device device)
    {
        ArgumentNullException.ThrowIfNull(indices);
        if (indices.dtype != ScalarType.Int64 || indices.dim() != 1 || indices.size(0) < 1 || !Describe.Same(indices.device, device))
        {
            throw new ArgumentException(
                $"indices is {indices.dtype} of shape {Describe.Shape(indices)} on {indices.device}; it must be Int64 of shape (B') with at least one row, on {device}.",
                nameof(indices));
        }

        using var scope = NewDisposeScope();
        var (least, most) = (indices.min().item<long>(), indices.max().item<long>());
        if (least < 0 || most >= batch)
        {
            throw new ArgumentException($"indices holds {(least < 0 ? least : most)}; each index must be at least 0 and less than the batch, {batch}.", nameof(indices));
        }
    }
}
