using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Collects, window by window, each row's output at its last token that is not padding.</summary>
internal sealed class LastOutputs
{
    private readonly long[]? last; // of each row; null if it is the input's last token for all rows
    private readonly long tokens;
    private readonly Tensor?[] rows;
    private Tensor? like;
    private Tensor? all;

    /// <param name="input">(B, T, …)</param>
    /// <param name="padding">(B, T) bool; null for none.</param>
    public LastOutputs(Tensor input, Tensor? padding)
    {
        tokens = input.size(1);
        rows = new Tensor?[input.size(0)];
        last = padding is null ? null : LastTokens(padding, tokens);
    }

    /// <summary>Takes the outputs of a window that begins at <paramref name="start"/>, (B, n, …).</summary>
    /// <param name="output">The outputs.</param>
    /// <param name="start">The first token of the window.</param>
    /// <param name="isMine">Whether another process takes the same outputs.</param>
    public void Add(Tensor output, long start, bool isMine = true)
    {
        like ??= Kept(output.narrow(1, 0, 1).detach());
        if (!isMine)
        {
            return;
        }

        var end = start + output.size(1);
        if (last is null)
        {
            if (end == tokens)
            {
                all = Kept(output.narrow(1, output.size(1) - 1, 1));
            }

            return;
        }

        for (var row = 0; row < rows.Length; row++)
        {
            if (last[row] >= start && last[row] < end)
            {
                rows[row] = Kept(output.narrow(0, row, 1).narrow(1, last[row] - start, 1));
            }
        }
    }

    /// <summary>(B, 1, …)</summary>
    public Tensor Join() => all ?? cat([.. rows.Select(row => row!)], 0);

    /// <summary>The same where other processes have taken windows too: 0 for a row whose output another one has.</summary>
    public Tensor JoinOwn() => all ?? cat([.. rows.Select((row, i) => row ?? zeros_like(like!.narrow(0, i, 1)))], 0);

    /// <summary>A copy, so that the window's outputs can be freed; it belongs to the dispose scope around the window's.</summary>
    private static Tensor Kept(Tensor output) => output.clone().MoveToOuterDisposeScope();

    private static long[] LastTokens(Tensor padding, long tokens)
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        var positions = ones([tokens], int64, padding.device).cumsum(0);
        var lengths = positions.mul(padding.logical_not()).amax([1]).cpu(); // 0 for a row that is all padding
        var last = HostVector.Elements<long>(lengths).ToArray();
        return [.. last.Select(length => length == 0 ? tokens - 1 : length - 1)];
    }
}
