using InfiniAttention;
using LongContext.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>Measures how often a model answers questions at the end of an input about what stands at its start.</summary>
public sealed class RecallEvaluator(AdaptSettings settings)
{
    private const int PlainTokens = 1 << 15, StreamedTokens = 1 << 19, FewestRows = 8, MostRows = 32;

    /// <summary>The questions are the same for every model, and none of them is used in training.</summary>
    private const int Seed = 1_000_003;

    /// <summary>The accuracy with the plain model's attention to all earlier tokens.</summary>
    public double Plain(Decoder model, int length)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var batch = Draw(length, PlainTokens);
        return Accuracy(model.call(tensor(batch.Tokens(0, length), batch.Rows, length)), batch);
    }

    /// <summary>The accuracy when read as a stream, which <paramref name="look"/> gets at its end. Null if it was cancelled between two windows.</summary>
    public double? Streamed(Decoder model, int length, CancellationToken cancellation, Action<SegmentStreamer>? begin = null, Action<SegmentStreamer>? look = null)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var stream = new SegmentStreamer(model);
        begin?.Invoke(stream);
        var batch = Draw(length, StreamedTokens);
        var questions = length - settings.Window;
        for (var (read, width) = (0, 0); read < questions; read += width)
        {
            if (cancellation.IsCancellationRequested)
            {
                return null;
            }

            width = (int)Math.Min(stream.WindowTokens, questions - read);
            using var window = NewDisposeScope();
            stream.Prefill(tensor(batch.Tokens(read, width), batch.Rows, width));
        }
        var accuracy = Accuracy(stream.Forward(tensor(batch.Tokens(questions, settings.Window), batch.Rows, settings.Window)), batch);
        look?.Invoke(stream);
        return accuracy;
    }

    /// <summary>Largest difference of two models' logits on inputs of one window, and the largest logit.</summary>
    public (double Difference, double Largest) Compare(Decoder model, Decoder other)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var batch = Draw(settings.Window, PlainTokens);
        var tokens = tensor(batch.Tokens(0, batch.Length), batch.Rows, batch.Length);
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

    /// <summary>The accuracy of the logits of an input's last tokens.</summary>
    private double Accuracy(Tensor logits, RecallBatch batch)
    {
        var (count, next) = (settings.Window - 1, batch.Length - settings.Window + 1);
        var (tokens, answers) = (tensor(batch.Tokens(next, count), batch.Rows, count), tensor(batch.Answers(next, count), batch.Rows, count));
        return Accuracy(logits.narrow(1, logits.shape[1] - settings.Window, count), tokens, answers);
    }
}
