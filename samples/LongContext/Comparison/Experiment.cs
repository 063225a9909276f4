using System.Text.Json;
using System.Text.Json.Serialization;
using LongContext.LanguageModel;

namespace LongContext.Comparison;

/// <summary>What a comparison reads and how: one base that reads single segments, and systems that continue from it on the same longer documents in the same order.</summary>
public sealed record Experiment
{
    private const string FileName = "experiment.json", TextFolder = "text";

    private static readonly JsonSerializerOptions Format = new() { WriteIndented = true };

    /// <summary>The texts and the held-out one; null for chronicles.</summary>
    public TextFiles? Text { get; init; }

    /// <summary>The people of a chronicle.</summary>
    public int People { get; init; } = 16;

    public required DecoderOptions Sizes { get; init; }

    /// <summary>A folder in which the systems were trained before, and from whose weights they go on; null if they begin with the base.</summary>
    public string? From { get; init; }

    /// <summary>Tokens that the base reads.</summary>
    public long BaseTokens { get; init; } = 1_200_000;

    /// <summary>Tokens that each system reads after the base; a system that begins with another one reads a third of it more.</summary>
    public required long Tokens { get; init; }

    /// <summary>Documents that are read side by side.</summary>
    public int Rows { get; init; } = 2;

    /// <summary>Tokens of each document in a step, through which gradients flow.</summary>
    public int StepTokens { get; init; } = 1024;

    /// <summary>Steps that a document lasts; what a system keeps of it is carried from one to the next.</summary>
    public int StepsOfDocument { get; init; } = 2;

    /// <summary>Tokens of a training document.</summary>
    [JsonIgnore]
    public int DocumentTokens => StepTokens * StepsOfDocument;

    /// <summary>The learning rate of a system.</summary>
    public double Rate { get; init; } = 4e-3;

    /// <summary>How many held-out documents are read; of a text, one.</summary>
    public int HeldOutDocuments { get; init; } = 8;

    /// <summary>How many tokens of each are read.</summary>
    public int HeldOutTokens { get; init; } = 8192;

    /// <summary>Whether the held-out chronicles are those that settings are chosen by.</summary>
    public bool ForChoosing { get; init; }

    /// <summary>Checks that the models of <see cref="From"/> can go on with this experiment.</summary>
    /// <exception cref="InputException">They cannot.</exception>
    public void CheckFrom()
    {
        if (From is not null && Load(From) is var before
            && (before.Sizes with { SegmentLength = Sizes.SegmentLength } != Sizes || JsonSerializer.Serialize(before.Text) != JsonSerializer.Serialize(Text)))
        {
            throw new InputException($"The models in '{From}' have other sizes or read another text: only the segment and the training may differ.");
        }
    }

    /// <summary>Takes a folder for the experiment.</summary>
    /// <exception cref="InputException">The folder holds another experiment.</exception>
    public void Claim(string folder)
    {
        var path = Path.Combine(folder, FileName);
        AtomicFile.Check(path);
        if (!File.Exists(path))
        {
            AtomicFile.Write(path, JsonSerializer.Serialize(this, Format));
        }
        else if (Load(folder) is var held && JsonSerializer.Serialize(held) != JsonSerializer.Serialize(this))
        {
            var differences = typeof(Experiment).GetProperties()
                .Select(property => (property.Name, Held: JsonSerializer.Serialize(property.GetValue(held)), Asked: JsonSerializer.Serialize(property.GetValue(this))))
                .Where(entry => entry.Held != entry.Asked)
                .Select(entry => $"{entry.Name} is {entry.Held} and not {entry.Asked}");
            throw new InputException($"'{folder}' holds another experiment: {string.Join(", ", differences)}. Give another --output.");
        }
    }

    /// <summary>The experiment of a folder.</summary>
    /// <exception cref="InputException">The folder holds none.</exception>
    public static Experiment Load(string folder)
    {
        var path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            throw new InputException($"There is no experiment in '{folder}'.");
        }

        try
        {
            return JsonSerializer.Deserialize<Experiment>(File.ReadAllText(path))!;
        }
        catch (JsonException error)
        {
            throw new InputException($"'{path}' describes no experiment: {error.Message}");
        }
    }

    /// <summary>The documents; texts are encoded into the folder first, if they are not yet.</summary>
    /// <exception cref="InputException">The length of the held-out documents cannot be read.</exception>
    public Corpus Open(string folder)
    {
        if (HeldOutTokens < Scores.StepTokens || HeldOutTokens % Scores.StepTokens != 0)
        {
            throw new InputException($"Held-out documents of {HeldOutTokens} tokens cannot be read: it must be a multiple of {Scores.StepTokens}.");
        }

        if (Text is not { } text)
        {
            return new ChronicleCorpus(People, HeldOutDocuments, HeldOutTokens, ForChoosing);
        }

        var tokens = Path.Combine(folder, TextFolder);
        if (!TextCorpus.IsPrepared(tokens))
        {
            TextCorpus.Prepare(text.Train, text.HeldOut, text.Vocabulary, tokens);
        }

        return TextCorpus.Load(tokens, HeldOutTokens);
    }
}

/// <summary>Text files to learn from, one that is held out, and the size of the vocabulary.</summary>
public sealed record TextFiles(IReadOnlyList<string> Train, string HeldOut, int Vocabulary);
