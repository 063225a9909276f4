using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using LongContext.LanguageModel;

namespace LongContext.Comparison;

/// <summary>The result of one system with one seed, kept in a file, so that an interrupted run continues with what is missing.</summary>
public sealed record ComparisonResult
{
    public required string System { get; init; }
    public required int Seed { get; init; }
    public required long Tokens { get; init; }
    public required double Seconds { get; init; }
    public required long NumbersHeld { get; init; }

    /// <summary>Bytes of text for each held-out token; null if the tokens stand for no bytes.</summary>
    public required double? BytesPerToken { get; init; }

    public required Scores Scores { get; init; }

    /// <summary>The mean loss of the same weights with their gates closed to the memory; null for a system without gates.</summary>
    public required double? NatsWithoutMemory { get; init; }

    /// <summary>The mean loss of the same weights when everything is forgotten before each segment.</summary>
    public required double NatsCleared { get; init; }

    [JsonIgnore]
    public double? BitsPerByte => BytesPerToken is { } bytes ? Scores.Nats / Math.Log(2) / bytes : null;

    private static string PathOf(string folder, string system, int seed) => Path.Combine(folder, $"{system}-{seed}.json");

    /// <summary>Evaluates a model that was trained. Its gates are closed afterwards.</summary>
    public static ComparisonResult Of(ComparisonJob job, ContextDecoder model, Experiment experiment, Corpus corpus, double seconds)
    {
        var documents = new DocumentBatch(corpus.HeldOut());
        return new()
        {
            System = job.System,
            Seed = job.Seed,
            Tokens = job.TokensOf(experiment),
            Seconds = seconds,
            NumbersHeld = model.Attentions.Sum(attention => attention.NumbersHeld(documents.Length)),
            BytesPerToken = corpus.BytesPerToken,
            Scores = Scores.Of(model, documents),
            NatsCleared = Scores.ClearedEachSegment(model, documents),
            NatsWithoutMemory = WithoutMemory(model, documents),
        };
    }

    public void Save(string folder) => AtomicFile.Write(PathOf(folder, System, Seed), JsonSerializer.Serialize(this));

    /// <summary>All results of a folder, ordered by system and seed.</summary>
    public static IReadOnlyList<ComparisonResult> All(string folder) =>
    [
        .. from path in Directory.GetFiles(folder, "*-*.json")
           let name = Path.GetFileNameWithoutExtension(path)
           let end = name.LastIndexOf('-')
           let seed = int.TryParse(name[(end + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out var number) ? number : (int?)null
           where seed is not null
           let result = Load(folder, name[..end], seed.Value)
           orderby ComparedSystem.Place(ComparedSystem.Named(result.System)), seed
           select result,
    ];

    /// <summary>The result in a folder; null if there is none.</summary>
    public static ComparisonResult? Load(string folder, string system, int seed)
    {
        var path = PathOf(folder, system, seed);
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            return JsonSerializer.Deserialize<ComparisonResult>(File.ReadAllText(path));
        }
        catch (JsonException error)
        {
            throw new InputException($"'{path}' holds no result: {error.Message}");
        }
    }

    private static double? WithoutMemory(ContextDecoder model, DocumentBatch documents) => model.CloseGates() ? Scores.Of(model, documents).Nats : null;
}
