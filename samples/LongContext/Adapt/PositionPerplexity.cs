using InfiniAttention;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Adapt;

/// <summary>The perplexity of held-out sequences by where in the sequence a token is.</summary>
/// <param name="sequences">Each of the same number of tokens, and the token after it.</param>
/// <param name="bins">Into how many equal parts a sequence is divided.</param>
public sealed class PositionPerplexity(IReadOnlyList<long[]> sequences, int bins)
{
    /// <summary>The first tokens of the texts, as many sequences as they give, at most a number.</summary>
    public static PositionPerplexity Of(IEnumerable<long[]> texts, long length, int bins, int most)
    {
        long[][] sequences = [.. texts.SelectMany(text => Enumerable.Range(0, (int)((text.Length - 1) / length)).Select(i => text.AsSpan((int)(i * length), (int)length + 1).ToArray())).Take(most)];
        return sequences.Length > 0 ? new(sequences, bins) : throw new InputException($"No held-out text has more than {length} tokens, the length of a sequence.");
    }

    /// <summary>The perplexity of each part.</summary>
    /// <exception cref="OperationCanceledException">The measurement was cancelled.</exception>
    public double[] Measure(Decoder model, CancellationToken cancellation)
    {
        using var mode = no_grad();
        var length = sequences[0].Length - 1;
        var losses = new double[bins];
        foreach (var sequence in sequences)
        {
            using var scope = NewDisposeScope();
            var tokens = tensor(sequence, [1, sequence.Length], int64, model.Head.device);
            using var stream = new SegmentStreamer(model.Body);
            var at = 0L;
            foreach (var hidden in stream.Stream(tokens.narrow(1, 0, length), cancellationToken: cancellation))
            {
                using var window = NewDisposeScope();
                var loss = nn.functional.cross_entropy(model.Logits(hidden)[0], tokens[0].narrow(0, at + 1, hidden.size(1)), reduction: nn.Reduction.None).to(float32).cpu().data<float>();
                foreach (var one in loss)
                {
                    losses[at++ * bins / length] += one;
                }

                hidden.Dispose();
            }
        }

        return [.. losses.Select((loss, bin) => Math.Exp(loss / (sequences.Count * Tokens(bin))))];

        long Tokens(int bin) => Enumerable.Range(0, length).LongCount(token => (long)token * bins / length == bin);
    }
}
