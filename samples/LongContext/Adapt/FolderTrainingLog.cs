using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>What TensorBoard shows of a continued training: the loss, and of each layer the memory's share of each head and the norm of each memory.</summary>
public sealed class FolderTrainingLog(string folder)
{
    private readonly SummaryWriter writer = utils.tensorboard.SummaryWriter(folder);

    public void Add(FolderTrainingStep step)
    {
        writer.add_scalar("loss", (float)step.Loss, step.Step);
        for (var layer = 0; layer < step.Memories.Count; layer++)
        {
            Add("memory's share", layer, step.Memories[layer].MemoryShares, step.Step);
            Add("memory's norm", layer, step.Memories[layer].MemoryNorms, step.Step);
        }
    }

    private void Add(string what, int layer, IReadOnlyList<double> heads, int step)
    {
        for (var head = 0; head < heads.Count; head++)
        {
            writer.add_scalar($"{what}/layer {layer}, head {head}", (float)heads[head], step);
        }
    }
}
