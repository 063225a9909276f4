using InfiniAttention;
using LongContext.Comparison;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Summaries;

/// <summary>Reads a text as a stream and writes its summary.</summary>
/// <param name="model">The model.</param>
/// <param name="encoding">Its tokens.</param>
/// <param name="most">The most tokens of a summary.</param>
/// <param name="random">Draws each token, as the paper does, at temperature 0.5 from the likeliest that have 95 % together; null takes the likeliest token.</param>
public sealed class SummaryWriter(Decoder model, SummaryEncoding encoding, int most, Random? random)
{
    private const double Temperature = 0.5, TopP = 0.95;

    public string Write(string text)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        using var streamer = new SegmentStreamer(model);
        var prompt = encoding.Prompt(encoding.Encode(text));
        var logits = streamer.Prefill(new DocumentBatch([new(prompt)]).Inputs(0, prompt.Length));
        var read = prompt[^Decoder.Before..].ToList();
        while (read.Count < most + Decoder.Before)
        {
            using var step = NewDisposeScope();
            var next = Choose(logits.data<float>().ToArray());
            read.Add(next);
            if (next == encoding.End)
            {
                break;
            }

            logits = streamer.Forward(tensor(new long[] { read[^1], read[^2], read[^3] }, 1, 1, 1 + Decoder.Before)).MoveToOuterDisposeScope();
        }

        return encoding.Decode(read.Skip(Decoder.Before));
    }

    private ushort Choose(float[] logits)
    {
        if (random is null)
        {
            return (ushort)Array.IndexOf(logits, logits.Max());
        }

        var highest = logits.Max();
        var likely = logits.Select((logit, token) => (Token: (ushort)token, Weight: Math.Exp((logit - highest) / Temperature))).OrderByDescending(entry => entry.Weight).ToArray();
        var (all, kept, count) = (likely.Sum(entry => entry.Weight), 0.0, 0);
        while (kept < TopP * all)
        {
            kept += likely[count++].Weight;
        }

        var drawn = random.NextDouble() * kept;
        var chosen = 0;
        while (chosen < count - 1 && (drawn -= likely[chosen].Weight) >= 0)
        {
            chosen++;
        }

        return likely[chosen].Token;
    }
}
