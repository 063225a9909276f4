using System.Text.Json;
using LongContext.LanguageModel;
using static TorchSharp.torch;

namespace LongContext.Recall;

/// <summary>The result of one system with one seed, kept in a file, so that an interrupted run continues with what is missing.</summary>
public sealed record RecallResult
{
    public required string System { get; init; }
    public required int Seed { get; init; }
    public required long Tokens { get; init; }
    public required double Seconds { get; init; }
    public required long NumbersHeld { get; init; }
    public required RecallScores Scores { get; init; }

    /// <summary>The perplexity of the same weights with the gates closed to the memory; null for a system without a memory.</summary>
    public double? PerplexityWithoutMemory { get; init; }

    public static string PathOf(string folder, string system, int seed) => Path.Combine(folder, $"{system}-{seed}.json");

    public static string WeightsOf(string folder, string system, int seed) => Path.Combine(folder, $"{system}-{seed}.weights");

    public void Save(string folder) => AtomicFile.Write(PathOf(folder, System, Seed), JsonSerializer.Serialize(this));

    /// <summary>The result in a folder; null if there is none for this number of tokens.</summary>
    public static RecallResult? Load(string folder, string system, int seed, long tokens)
    {
        var path = PathOf(folder, system, seed);
        if (!File.Exists(path))
        {
            return null;
        }

        try
        {
            return JsonSerializer.Deserialize<RecallResult>(File.ReadAllText(path)) is { } result && result.Tokens == tokens ? result : null;
        }
        catch (JsonException error)
        {
            throw new InputException($"'{path}' holds no result: {error.Message}");
        }
    }
}

/// <summary>The held-out chronicles that a system is measured on.</summary>
/// <param name="Documents">How many held-out chronicles.</param>
/// <param name="ForChoosing">Whether they are those for choosing settings, so that the reported ones stay unseen.</param>
public readonly record struct HeldOut(int Documents, bool ForChoosing)
{
    private const int Length = 8192, FirstReported = RecallTrainer.HeldOut, FirstForChoosing = RecallTrainer.HeldOut + 1000;

    public Chronicle[] Read()
    {
        var first = ForChoosing ? FirstForChoosing : FirstReported;
        return [.. Enumerable.Range(first, Documents).Select(seed => new Chronicle(seed, Length + 1))];
    }
}

/// <summary>One training and its evaluation, in a process of its own.</summary>
public sealed record RecallJob(string System, int Seed, long Tokens, string Folder)
{
    public const string Base = "base";

    /// <summary>The system whose weights it starts from; null for the base.</summary>
    public string? Before => System == Base ? null : RecallSystem.Named(System).After ?? Base;

    /// <summary>Whether weights and result are in the folder.</summary>
    public bool IsFinished => RecallResult.Load(Folder, System, Seed, Tokens) is not null && File.Exists(RecallResult.WeightsOf(Folder, System, Seed));

    private static readonly DecoderOptions Sizes = new() { Vocabulary = Chronicle.Vocabulary };

    /// <summary>Trains from the weights in the folder, and writes weights and result there.</summary>
    /// <param name="heldOut">The chronicles that the system is measured on.</param>
    /// <param name="done">Called after each step.</param>
    /// <param name="cancellation">Ends the training; nothing is written then.</param>
    public void Run(HeldOut heldOut, Action<RecallStep> done, CancellationToken cancellation)
    {
        using var threads = new OneThread();
        manual_seed(Seed);
        var clock = global::System.Diagnostics.Stopwatch.StartNew();
        if (System == Base)
        {
            using var local = new Decoder(Sizes, _ => new LocalContext(Sizes));
            new RecallTrainer(local, Seed, cancellation).TrainBase(Tokens, done);
            Keep(local, clock.Elapsed, heldOut, cancellation);
            return;
        }

        var system = RecallSystem.Named(System);
        using var model = system.Create(Sizes);
        using (var before = system.After is { } name ? RecallSystem.Named(name).Create(Sizes) : new Decoder(Sizes, _ => new LocalContext(Sizes)))
        {
            before.load(RecallResult.WeightsOf(Folder, Before!, Seed));
            model.Take(before);
        }

        new RecallTrainer(model, Seed, cancellation).Train(Tokens, system.After is not null, done);
        Keep(model, clock.Elapsed, heldOut, cancellation);
    }

    private void Keep(Decoder model, TimeSpan time, HeldOut heldOut, CancellationToken cancellation)
    {
        if (cancellation.IsCancellationRequested)
        {
            return;
        }

        var path = RecallResult.WeightsOf(Folder, System, Seed);
        model.save(path + ".part");
        File.Move(path + ".part", path, overwrite: true);
        var documents = heldOut.Read();
        new RecallResult
        {
            System = System,
            Seed = Seed,
            Tokens = Tokens,
            Seconds = time.TotalSeconds,
            NumbersHeld = model.Attentions.Sum(attention => attention.NumbersHeld),
            Scores = RecallScores.Of(model, documents),
            PerplexityWithoutMemory = WithoutMemory(model, documents),
        }.Save(Folder);
    }

    private static double? WithoutMemory(Decoder model, Chronicle[] documents)
    {
        const double Closed = -30;
        var gates = model.Attentions.OfType<InfiniContext>().Select(context => context.Gate).ToArray();
        if (gates.Length == 0)
        {
            return null;
        }

        using (no_grad())
        {
            Array.ForEach(gates, gate => gate.fill_(Closed));
        }

        return RecallScores.Of(model, documents).Perplexity;
    }

    /// <summary>Runs libtorch on one thread: the kernels are too small to split across threads, and several jobs run in parallel.</summary>
    private sealed class OneThread : IDisposable
    {
        private readonly int before = get_num_threads();

        public OneThread() => set_num_threads(1);

        public void Dispose() => set_num_threads(before);
    }
}
