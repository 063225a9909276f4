using InfiniAttention;
using TorchSharp;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>How often a model answers rightly at the end of an input what stands at its start.</summary>
public sealed class RecallEvaluator(AdaptSettings settings)
{
    private const int PlainTokens = 1 << 15, StreamedTokens = 1 << 19, FewestRows = 8, MostRows = 32;

    /// <summary>Questions are the same for every model, and none of them was trained on.</summary>
    private const int Seed = 1_000_003;

    /// <summary>With its own attention, over everything before.</summary>
    public double Plain(LlamaDecoder model, int length)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var batch = Draw(length, PlainTokens);
        return Accuracy(model.call(tensor(batch.Tokens, batch.Rows, length)), batch);
    }

    /// <summary>As a stream; what it holds at the end goes to <paramref name="look"/>.</summary>
    public double Streamed(LlamaDecoder model, int length, Action<SegmentStreamer>? begin = null, Action<SegmentStreamer>? look = null)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var stream = new SegmentStreamer(model);
        begin?.Invoke(stream);
        var batch = Draw(length, StreamedTokens);
        var tokens = tensor(batch.Tokens, batch.Rows, length);
        var before = length - settings.Window;
        if (before > 0)
            stream.Prefill(tokens.narrow(1, 0, before));
        var accuracy = Accuracy(stream.Forward(tokens.narrow(1, before, settings.Window)), batch);
        look?.Invoke(stream);
        return accuracy;
    }

    /// <summary>Largest difference of two models' logits on inputs of one window, and the largest logit.</summary>
    public (double Difference, double Largest) Compare(LlamaDecoder model, LlamaDecoder other)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var batch = Draw(settings.Window, PlainTokens);
        var tokens = tensor(batch.Tokens, batch.Rows, batch.Length);
        var (expected, actual) = (model.call(tokens), other.call(tokens));
        return ((expected - actual).abs().max().item<float>(), expected.abs().max().item<float>());
    }

    internal static double Accuracy(Tensor logits, Tensor next, Tensor answers)
    {
        using var scope = NewDisposeScope();
        return (logits.detach().argmax(-1).eq(next) & answers).sum().ToDouble() / answers.sum().ToDouble();
    }

    private RecallBatch Draw(int length, int tokens) =>
        new RecallTask(Seed + settings.Seed).Apart(Rows(length, tokens), length, settings.Window);

    private static int Rows(int length, int tokens) => Math.Clamp(tokens / length, FewestRows, MostRows);

    /// <summary>How many inputs of a length <see cref="Streamed"/> reads at once.</summary>
    public static int StreamedRows(int length) => Rows(length, StreamedTokens);

    /// <summary>Of the logits of an input's last tokens.</summary>
    private double Accuracy(Tensor logits, RecallBatch batch)
    {
        var (count, start) = (settings.Window - 1, batch.Length - settings.Window);
        var tokens = tensor(batch.Tokens, batch.Rows, batch.Length);
        var answers = tensor(batch.Answers, batch.Rows, batch.Length);
        return Accuracy(logits.narrow(1, logits.shape[1] - settings.Window, count), tokens.narrow(1, start + 1, count), answers.narrow(1, start + 1, count));
    }
}
