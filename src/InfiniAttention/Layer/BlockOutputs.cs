using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// Joins the outputs of a call's blocks, (B, n, D) each, to (B, T, D). Without gradients each is copied to its place at
/// once, so that the next block can reuse its memory; with gradients they are concatenated at the end.
/// </summary>
internal sealed class BlockOutputs(long tokens)
{
    private readonly List<Tensor> blocks = [];
    private Tensor? whole;

    public void Add(long start, Tensor block)
    {
        if (block.size(1) == tokens || is_grad_enabled())
        {
            blocks.Add(block);
            return;
        }

        whole ??= empty([block.size(0), tokens, block.size(2)], block.dtype, block.device);
        using (block)
        using (var place = whole.narrow(1, start, block.size(1)))
        {
            place.copy_(block);
        }
    }

    public Tensor Join() => whole ?? (blocks.Count == 1 ? blocks[0] : cat(blocks, 1));
}
