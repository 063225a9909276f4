using InfiniAttention;
using LongContext.Comparison;
using LongContext.Generate;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Summaries;

/// <summary>Reads a text as a stream and writes its summary.</summary>
/// <param name="model">The model.</param>
/// <param name="encoding">Its tokens.</param>
/// <param name="most">The most tokens of a summary.</param>
/// <param name="sampler">Draws each token.</param>
public sealed class SummaryWriter(ContextDecoder model, SummaryEncoding encoding, int most, Sampler sampler)
{
    public string Write(string text)
    {
        using var noGrad = no_grad();
        using var scope = NewDisposeScope();
        using var streamer = new SegmentStreamer(model);
        var prompt = encoding.Prompt(encoding.Encode(text));
        var logits = streamer.Prefill(new DocumentBatch([new(prompt)]).Inputs(0, prompt.Length));
        var read = prompt[^NeighbourEmbedding.Before..].ToList();
        while (read.Count < most + NeighbourEmbedding.Before)
        {
            using var step = NewDisposeScope();
            var next = (ushort)sampler.Next(logits);
            read.Add(next);
            if (next == encoding.End)
            {
                break;
            }

            logits = streamer.Forward(tensor(new long[] { read[^1], read[^2], read[^3] }, 1, 1, 1 + NeighbourEmbedding.Before)).MoveToOuterDisposeScope();
        }

        return encoding.Decode(read.Skip(NeighbourEmbedding.Before));
    }
}
