using System.Globalization;
using InfiniAttention;
using LongContext.Models;
using static TorchSharp.torch;

namespace LongContext.Generate;

/// <summary>A text that a model reads as a stream and goes on with. What is saved is the stream's state and the last token, which the stream has not read yet.</summary>
public sealed class Generation : IDisposable
{
    private readonly PretrainedModel model;
    private readonly SegmentStreamer stream;
    private long? pending;
    private Tensor? hidden;

    public Generation(PretrainedModel model)
    {
        this.model = model;
        stream = new(model.Decoder.Body);
    }

    /// <summary>Tokens that were read.</summary>
    public long Position => stream.Position;

    public long StateBytes => stream.StateBytes;

    /// <summary>The tokens of a prompt: at the beginning of a text with its special tokens, after other text without them.</summary>
    public long[] Tokens(string prompt)
    {
        var tokens = model.Tokenizer.Encode(prompt);
        if (Position == 0)
        {
            return tokens;
        }

        var special = model.Tokenizer.Encode("");
        return tokens.AsSpan().StartsWith(special) ? tokens[special.Length..] : tokens;
    }

    /// <summary>Reads tokens after what was read so far.</summary>
    public void Read(IReadOnlyList<long> tokens, IProgress<long>? progress = null, CancellationToken cancellation = default)
    {
        long[] all = pending is { } token ? [token, .. tokens] : [.. tokens];
        if (all.Length == 0)
        {
            return;
        }

        using var mode = inference_mode();
        using var input = tensor(all, [1, all.Length], int64, model.Decoder.Head.device);
        var last = stream.Prefill(input, progress: progress, cancellationToken: cancellation);
        hidden?.Dispose();
        (hidden, pending) = (last, null);
    }

    /// <summary>Draws the next token.</summary>
    /// <exception cref="InputException">Nothing was read yet.</exception>
    public long Next(Sampler sampler)
    {
        Read([]);
        if (hidden is null)
        {
            throw new InputException("The prompt is empty.");
        }

        using var mode = inference_mode();
        using var logits = model.Decoder.Logits(hidden);
        pending = sampler.Next(logits);
        return pending.Value;
    }

    /// <summary>Whether a token ends a text.</summary>
    public bool Ends(long token) => model.Decoder.Config.EndTokens.Contains(token);

    public void Save(string path)
    {
        stream.Save(path);
        AtomicFile.Write(PendingFile(path), pending?.ToString(CultureInfo.InvariantCulture) ?? "");
    }

    public void Load(string path)
    {
        try
        {
            stream.Load(path);
            var text = File.ReadAllText(PendingFile(path));
            pending = text.Length == 0 ? null
                : long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out var token) && token < model.Decoder.Config.Vocabulary ? token
                : throw new InputException($"'{PendingFile(path)}' holds '{text}', which is not a token of the model.");
        }
        catch (InvalidDataException error)
        {
            throw new InputException($"'{path}' cannot be continued with this model: {error.Message}");
        }
    }

    public void Dispose()
    {
        hidden?.Dispose();
        stream.Dispose();
    }

    private static string PendingFile(string path) => path + ".next";
}
