using LongContext.LanguageModel;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Comparison;

/// <summary>What TensorBoard shows of a training: losses, and the gates of each layer.</summary>
public sealed class TrainingLog(string folder)
{
    private const int Every = 10;

    private readonly SummaryWriter writer = utils.tensorboard.SummaryWriter(folder);

    /// <summary>A running mean over some thirty steps, for display; NaN is no number yet.</summary>
    public static double Smooth(double mean, double next) => double.IsNaN(mean) ? next : double.IsNaN(next) ? mean : mean + (0.03 * (next - mean));

    public void Add(TrainingStep step, ContextDecoder model)
    {
        if (step.Step % Every != 0)
        {
            return;
        }

        writer.add_scalar("loss", (float)step.Loss, step.Step);
        if (!double.IsNaN(step.RecallLoss))
        {
            writer.add_scalar("loss of names told in earlier segments", (float)step.RecallLoss, step.Step);
        }

        using var scope = NewDisposeScope();
        foreach (var (attention, layer) in model.Attentions.Select((attention, layer) => (attention, layer)).Where(entry => entry.attention.Gate is not null))
        {
            var shares = attention.Gate!.detach().sigmoid().data<float>().ToArray();
            for (var head = 0; head < shares.Length; head++)
            {
                writer.add_scalar($"memory's share/layer {layer}, head {head}", shares[head], step.Step);
            }
        }
    }
}
