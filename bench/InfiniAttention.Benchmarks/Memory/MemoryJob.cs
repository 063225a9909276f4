using System.Globalization;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Benchmarks;

/// <summary>The calls whose memory is measured.</summary>
internal enum MemoryCall
{
    Forward,
    Prefill,
    Stream,
    Steps,
    Backpropagate,
    Training,
}

/// <summary>The models that a call runs.</summary>
internal enum MemoryModel
{
    Plain,
    Crumbs,
}

/// <summary>The work of one process: a call, a model, a number of tokens and of threads.</summary>
/// <param name="Call">The call.</param>
/// <param name="Width">D of the model's two layers, of heads of 64 and N 128.</param>
/// <param name="MakesCrumbs">Whether the model leaves native memory behind in every call, as a user's model may.</param>
/// <param name="Tokens">How many tokens it reads.</param>
/// <param name="Threads">Threads of libtorch.</param>
internal sealed record MemoryJob(MemoryCall Call, long Width, bool MakesCrumbs, long Tokens, int Threads)
{
    /// <summary>The command that runs one job and prints its memory as it goes.</summary>
    public const string Command = "memory-job";

    private const long ChunkTokens = 64 * Setting.Kilo;
    private const long Steps = 1024; // a chunk of one-token steps

    /// <summary>Prints "tokens resident-bytes" after every power of two of chunks, then "peak bytes".</summary>
    public int Run()
    {
        manual_seed(0);
        set_num_threads(Threads);
        using var scope = NewDisposeScope();
        var model = new UserModel(Width, MakesCrumbs);
        model.train(Call is MemoryCall.Backpropagate or MemoryCall.Training);
        var chunk = randn(1, ChunkTokens, Width);
        using var streamer = new SegmentStreamer(model);
        var chunks = Math.Max(1, Tokens / ChunkTokens);
        for (var read = 1L; read <= chunks; read++)
        {
            using (NewDisposeScope())
            {
                Read(model, streamer, chunk);
            }

            if (long.IsPow2(read))
            {
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{read * ChunkTokens} {Status("VmRSS")}"));
            }
        }

        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"peak {Status("VmHWM")}"));
        return 0;
    }

    private void Read(UserModel model, SegmentStreamer streamer, Tensor chunk)
    {
        if (Call == MemoryCall.Backpropagate)
        {
            streamer.Reset();
            streamer.Backpropagate(chunk, chunk, (y, _) => y.square().mean([-1L]));
            return;
        }

        if (Call == MemoryCall.Training)
        {
            for (var start = 0L; start < ChunkTokens; start += 8 * Setting.Kilo)
            {
                using var step = NewDisposeScope();
                model.call(chunk.narrow(1, start, 8 * Setting.Kilo)).square().mean().backward();
                model.zero_grad();
            }

            return;
        }

        using var noGrad = no_grad();
        switch (Call)
        {
            case MemoryCall.Forward:
                streamer.Forward(chunk).Dispose();
                break;
            case MemoryCall.Prefill:
                streamer.Prefill(chunk).Dispose();
                break;
            case MemoryCall.Stream:
                foreach (var window in streamer.Stream(chunk))
                {
                    window.Dispose();
                }

                break;
            default:
                for (var step = 0L; step < Steps; step++)
                {
                    using var token = chunk.narrow(1, step, 1);
                    streamer.Forward(token).Dispose();
                }

                break;
        }
    }

    /// <summary>An entry of /proc/self/status, in bytes.</summary>
    private static long Status(string name)
    {
        var line = File.ReadLines("/proc/self/status").First(text => text.StartsWith(name, StringComparison.Ordinal));
        return 1024 * long.Parse(line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);
    }

    /// <summary>Two layers; with crumbs, typical user code between them: it reads shapes, joins and splits tensors, and converts numbers implicitly.</summary>
    private sealed class UserModel : nn.Module<Tensor, Tensor>
    {
        private readonly InfiniAttentionModule first;
        private readonly InfiniAttentionModule second;
        private readonly Linear between;
        private readonly bool makesCrumbs;

        public UserModel(long width, bool makesCrumbs)
            : base(nameof(UserModel))
        {
            this.makesCrumbs = makesCrumbs;
            var options = new InfiniAttentionOptions { EmbedDim = width, NumHeads = width / 64, SegmentLength = 128 };
            (first, second, between) = (new(options), new(options), nn.Linear(width, width));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            if (!makesCrumbs)
            {
                return second.call(first.call(x)).MoveToOuterDisposeScope();
            }

            var y = x + (first.call(x) * 0.5);
            var half = y.shape[2] / 2;
            y = cat([y.narrow(-1, 0, half), y.narrow(-1, half, half)], -1);
            y = (nn.functional.elu(between.call(y), 1) * 0.5) + y;
            y = y + second.call(y);
            var parts = y.split(Math.Max(1, y.shape[1] / 2), 1);
            return (cat(parts, 1) - 1.0).MoveToOuterDisposeScope();
        }
    }
}
