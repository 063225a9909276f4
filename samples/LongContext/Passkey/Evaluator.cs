using System.Diagnostics;
using System.Text;
using InfiniAttention;
using TorchSharp;
using static TorchSharp.torch;
using Decoder = LongContext.Models.Decoder;

namespace LongContext.Passkey;

public enum KeyPosition { Start, Middle, End }

/// <summary>The settings of an evaluation, in which all models read the same prompts.</summary>
public sealed record EvaluationSettings
{
    public required IReadOnlyList<long> Lengths { get; init; }
    public IReadOnlyList<KeyPosition> Positions { get; init; } = Enum.GetValues<KeyPosition>();
    public int Trials { get; init; } = 2;
    public int Seed { get; init; } = 1;

    /// <summary>
    /// Whether each length is shortened by up to a segment at random, so that the question crosses segment boundaries at
    /// every offset. Without it prompt and answer have exactly the given length, and a length of whole segments keeps the question in one.
    /// </summary>
    public bool Ragged { get; init; }

    public Haystack Haystack { get; init; } = Haystack.Periodic;
    public Device Device { get; init; } = CPU;
}

/// <summary>One key hidden and asked for.</summary>
public sealed record Trial(MemoryUpdate Rule, long Length, KeyPosition Position, string Key, string Answer)
{
    public bool Right => Key == Answer;
}

/// <summary>What reading prompts of one length cost, all rules and positions together.</summary>
public sealed record LengthCost(long Length, long Tokens, double Seconds, long PeakMemory)
{
    public double TokensPerSecond => Tokens / Seconds;
}

/// <summary>
/// Reads prompts through a <see cref="SegmentStreamer"/> and takes the answer by greedy decoding. The positions of one trial
/// are the rows of a batch; on a CPU as many batches run side by side as there are cores, each on one core, because the
/// kernels of a small model are too small to split across threads.
/// </summary>
public sealed class Evaluator(IReadOnlyList<Decoder> models, EvaluationSettings settings)
{
    private readonly List<Trial> trials = [];
    private readonly List<LengthCost> costs = [];

    public EvaluationSettings Settings => settings;

    public IReadOnlyList<MemoryUpdate> Rules { get; } = [.. models.Select(model => model.Attention.Update)];

    /// <summary>What has been measured so far.</summary>
    public IReadOnlyList<Trial> Trials => trials;

    public IReadOnlyList<LengthCost> Costs => costs;

    /// <summary>All the tokens that <see cref="Run"/> will read.</summary>
    public long TotalTokens => settings.Lengths.Sum() * settings.Positions.Count * settings.Trials * models.Count;

    /// <summary>Runs every trial; when cancelled, ends early and keeps the trials that are complete.</summary>
    /// <param name="tokensRead">Called with the number of tokens just read, from several threads.</param>
    /// <param name="cancellation">Ends the run between two windows.</param>
    public void Run(Action<long> tokensRead, CancellationToken cancellation)
    {
        var onCpu = settings.Device.type == DeviceType.CPU;
        using var threads = new FixedThreads(onCpu ? Math.Min(Environment.ProcessorCount, settings.Trials * models.Count) : 1);
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = threads.MaximumConcurrencyLevel, TaskScheduler = threads };
        foreach (var length in settings.Lengths)
        {
            var batches = Enumerable.Range(0, settings.Trials).SelectMany(trial => models.Select(model => (model, trial))).ToList();
            var read = 0L;
            PeakMemory.Reset();
            var watch = Stopwatch.StartNew();
            Parallel.ForEach(batches, parallel, batch =>
            {
                if (onCpu)
                {
                    set_num_threads(1);
                }

                var results = Ask(batch.model, length, Prompts(length, batch.trial), n =>
                {
                    Interlocked.Add(ref read, n);
                    tokensRead(n);
                }, cancellation);
                lock (trials)
                {
                    trials.AddRange(results);
                }
            });
            costs.Add(new LengthCost(length, read, watch.Elapsed.TotalSeconds, PeakMemory.Bytes()));
            if (cancellation.IsCancellationRequested)
            {
                return;
            }
        }
    }

    /// <summary>One prompt for each position: the same for every rule, different for every seed, length and trial.</summary>
    /// <remarks>
    /// The key is shifted at random by up to two segments from the place that its position names, so that it crosses
    /// segment boundaries at every offset.
    /// </remarks>
    public IReadOnlyList<(KeyPosition Position, PasskeyPrompt Prompt)> Prompts(long length, int trial)
    {
        var random = new Random(HashCode(settings.Seed, length, trial));
        var segment = models[0].Attention.SegmentLength;
        var shortest = length - PasskeyPrompt.FillerTokens(length);
        length = Math.Max(shortest, length - PasskeyPrompt.KeyDigits - (settings.Ragged ? random.NextInt64(segment) : 0));
        var filler = PasskeyPrompt.FillerTokens(length);
        var haystackStart = ReferenceEquals(settings.Haystack, Haystack.Periodic) ? 0 : random.NextInt64(settings.Haystack.Length);
        return [.. settings.Positions.Select(position =>
        {
            var shift = random.NextInt64(Math.Min(filler, 2 * segment) + 1);
            var before = position switch
            {
                KeyPosition.Start => shift,
                KeyPosition.Middle => Math.Max(0, filler / 2 - shift),
                _ => filler - shift,
            };
            before = Math.Max(0, settings.Haystack.WordStart(haystackStart + before) - haystackStart);
            var key = random.Next(100_000).ToString("D5");
            return (position, new PasskeyPrompt(key, length, before, settings.Haystack, haystackStart));
        })];
    }

    private List<Trial> Ask(Decoder model, long length, IReadOnlyList<(KeyPosition Position, PasskeyPrompt Prompt)> rows,
        Action<long> tokensRead, CancellationToken cancellation)
    {
        using var withoutGradients = no_grad();
        using var scope = NewDisposeScope();
        using var streamer = new SegmentStreamer(model);
        var promptLength = rows[0].Prompt.Length;
        var windowTokens = WindowTokens(model, rows.Count);
        streamer.WindowTokens = windowTokens;
        var answers = rows.Select(_ => new StringBuilder()).ToArray();

        var buffer = new long[rows.Count * windowTokens];
        Tensor? last = null; // (rows, vocabulary)
        for (var offset = 0L; offset < promptLength; offset += windowTokens)
        {
            if (cancellation.IsCancellationRequested)
            {
                return [];
            }

            var width = (int)Math.Min(windowTokens, promptLength - offset);
            for (var row = 0; row < rows.Count; row++)
            {
                rows[row].Prompt.CopyTo(buffer.AsSpan(row * width, width), offset);
            }

            using var window = NewDisposeScope();
            var tokens = tensor(buffer.AsSpan(0, rows.Count * width).ToArray(), rows.Count, width).to(settings.Device);
            last?.Dispose();
            last = streamer.Prefill(tokens, cancellationToken: CancellationToken.None).MoveToOuterDisposeScope();
            tokensRead(rows.Count * width);
        }

        for (var digit = 0; digit < PasskeyPrompt.KeyDigits; digit++)
        {
            using var next = last!.reshape(rows.Count, -1).argmax(-1, keepdim: true); // (rows, 1)
            var bytes = next.cpu().data<long>().ToArray();
            for (var row = 0; row < rows.Count; row++)
            {
                answers[row].Append((char)bytes[row]);
            }

            last!.Dispose();
            last = streamer.Forward(next);
        }
        return [.. rows.Select((row, i) => new Trial(model.Attention.Update, length, row.Position, row.Prompt.Key, answers[i].ToString()))];
    }

    /// <summary>A window whose temporaries stay in a core's cache; a GPU needs more work at a time.</summary>
    private int WindowTokens(Decoder model, int rows)
    {
        var segment = model.Attention.SegmentLength;
        var tokens = settings.Device.type == DeviceType.CPU ? 3072 : 1 << 19;
        return (int)(segment * Math.Max(1, tokens / rows / segment));
    }

    /// <summary>A seed from three numbers; .NET's own HashCode differs from run to run.</summary>
    private static int HashCode(int seed, long length, int trial) =>
        unchecked((int)((seed * 1_000_003L + length) * 1_000_003L + trial) & int.MaxValue);
}
