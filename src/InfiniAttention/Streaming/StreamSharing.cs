using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>
/// How the ranks of a group share a stream. Between windows all ranks hold the same state. A window of whole segments, at least one for each
/// rank, is cut into stretches; what is left over is read by every rank alike.
/// </summary>
internal sealed class StreamSharing
{
    private readonly ISequenceGroup group;
    private readonly long unit; // a whole number of segments of every layer

    public StreamSharing(ISequenceGroup group, long[] segmentLengths)
    {
        (this.group, unit) = (group, segmentLengths.Aggregate(LeastCommonMultiple));
    }

    private int LastRank => group.Size - 1;

    /// <summary>The length of the window at a position: up to the next segment, then whole segments for every rank, then the rest.</summary>
    public long NextWindow(long position, long remaining, long windowTokens)
    {
        var open = position % unit;
        var units = remaining / unit;
        return open > 0 ? Math.Min(remaining, unit - open)
            : units < group.Size ? remaining
            : unit * Math.Min(units, group.Size * Math.Max(1, windowTokens / unit));
    }

    /// <summary>What this rank computes of a window.</summary>
    public WindowPart PartOf(long position, (long Start, long Length) window)
    {
        var units = window.Length / unit;
        if (position % unit != 0 || window.Length % unit != 0 || units < group.Size || group.Size == 1)
        {
            return new(window.Start, window.Length) { IsMine = group.Rank == 0 };
        }

        var (each, further) = (units / group.Size, units % group.Size);
        var offset = unit * ((group.Rank * each) + Math.Min(group.Rank, further));
        return new(window.Start + offset, unit * (each + (group.Rank < further ? 1 : 0))) { Offset = offset, IsShared = true };
    }

    /// <summary>Begins this rank's stretch; null if the window is not shared.</summary>
    public Stretch? Begin(WindowPart part, TokenInfo? info) => part.IsShared ? new(group, part.Offset, info?.DocumentStarts is not null) : null;

    /// <summary>Gives every rank the state at a window's end.</summary>
    /// <param name="states">The stream, in which this rank has run its part.</param>
    /// <param name="part">That part.</param>
    /// <param name="isRandom">Whether ranks that read the same may have come to different states.</param>
    public void Settle(StreamStates states, WindowPart part, bool isRandom)
    {
        if (part.IsShared || (isRandom && group.Size > 1))
        {
            Broadcast(states, part.IsShared ? LastRank : 0);
        }
    }

    /// <summary>Gives every rank the state of the one that came to a window's end.</summary>
    public void Broadcast(StreamStates states, WindowPart part) => Broadcast(states, part.IsShared ? LastRank : 0);

    private void Broadcast(StreamStates states, int rank)
    {
        using var saved = new MemoryStream();
        if (group.Rank == rank)
        {
            StreamFile.Save(states, saved);
        }

        var length = (long)Agreement.Gather(group, saved.Length)[rank][0];
        using var bytes = empty([length], ScalarType.Byte, CPU);
        if (group.Rank == rank)
        {
            saved.ToArray().CopyTo(bytes.bytes);
        }

        group.Broadcast(bytes, rank);
        if (group.Rank != rank)
        {
            using var received = new MemoryStream(bytes.bytes.ToArray());
            states.Set(StreamFile.Load(states, received));
        }
    }

    /// <summary>The outputs of a whole window on every rank.</summary>
    public Tensor Joined(Tensor output, WindowPart part, (long Start, long Length) window)
    {
        using var scope = NewDisposeScope();
        var sizes = Describe.Sizes(output);
        sizes[1] = window.Length;
        var all = zeros(sizes, Summable(output.dtype), output.device);
        all.narrow(1, part.Offset, part.Length).copy_(output);
        group.Sum(all);
        return Describe.As(all, output.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>Each row's last output on every rank; only one rank has computed it.</summary>
    public Tensor Joined(LastOutputs last)
    {
        using var scope = NewDisposeScope();
        var own = last.JoinOwn();
        var all = own.to(Summable(own.dtype), copy: true).contiguous();
        group.Sum(all);
        return Describe.As(all, own.dtype).MoveToOuterDisposeScope();
    }

    /// <summary>The gradient of a window's first states, which only rank 0 has computed, on every rank.</summary>
    /// <param name="gradients">Those of this rank; null for 0.</param>
    /// <param name="first">The tensors of the states.</param>
    public Tensor?[] HandBack(Tensor?[] gradients, Tensor[] first)
    {
        using var noGrad = no_grad();
        return [.. first.Select((tensor, i) =>
        {
            var gradient = gradients[i]?.contiguous() ?? zeros_like(tensor);
            group.Broadcast(gradient, 0);
            return gradient;
        })];
    }

    /// <summary>
    /// The gradients of a window's last states, in which this rank starts: those of the later windows on the rank that came to the end, 0 on the others,
    /// so that the graphs of all ranks are alike.
    /// </summary>
    public Tensor?[] HandedOn(Tensor?[] handedOn, Tensor[] last, WindowPart part)
    {
        if (!part.IsShared)
        {
            return handedOn;
        }

        var isEnd = group.Rank == LastRank && handedOn.Length > 0;
        return [.. last.Select((tensor, i) => isEnd && handedOn[i] is { } gradient ? gradient : zeros_like(tensor))];
    }

    /// <summary>The sum of a number over the ranks.</summary>
    public double Sum(double number) => Agreement.Gather(group, number).Sum(rank => rank[0]);

    /// <summary>Sums gradients over the ranks.</summary>
    public void Sum(ParameterGradients gradients) => gradients.SumOver(group);

    /// <summary>Whether a flag is set on any rank.</summary>
    public bool IsAny(bool flag) => Agreement.Gather(group, flag ? 1 : 0).Any(rank => rank[0] > 0);

    /// <summary>Throws on every rank unless a check succeeds on all and the numbers after it are the same.</summary>
    public void Agree(Action check, Func<double[]> numbers)
    {
        Agreement.Check(group, check);
        Agreement.CheckSame(group, "arguments (input, token info, target, reduction or ignoreIndex), WindowTokens, training or gradient mode, or a stream at another position", numbers());
    }

    private static ScalarType Summable(ScalarType type) => Describe.IsFloating(type) ? MemoryState.TypeFor(type) : ScalarType.Float64;

    private static long LeastCommonMultiple(long a, long b)
    {
        var (divisor, rest) = (a, b);
        while (rest != 0)
        {
            (divisor, rest) = (rest, divisor % rest);
        }

        return a / divisor * b;
    }
}

/// <summary>What a process computes of a window.</summary>
/// <param name="Start">Its first token in the input.</param>
/// <param name="Length">Tokens of each row.</param>
internal readonly record struct WindowPart(long Start, long Length)
{
    /// <summary>Tokens of the window before it.</summary>
    public long Offset { get; init; }

    /// <summary>Whether the ranks have cut the window into stretches; otherwise each reads all of it.</summary>
    public bool IsShared { get; init; }

    /// <summary>Whether what this process computes counts; of a window that all read, that of rank 0.</summary>
    public bool IsMine { get; init; } = true;
}
