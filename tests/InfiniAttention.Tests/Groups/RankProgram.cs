using System.Globalization;
using FsCheck;
using FsCheck.Fluent;
using Microsoft.FSharp.Core;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Groups;

/// <summary>What each process of an MPI job runs that <see cref="MpiTests"/> starts. Every rank compares what it has with what one process computes.</summary>
internal static class RankProgram
{
    public const string Command = "rank";
    public const string Failure = "this rank has had enough";

    public static int Run(string[] arguments) => arguments is ["train"] ? Snippets.GroupSnippets.Train() : MpiSequenceGroup.Run(group =>
    {
        set_num_threads(1);
        string said = arguments switch
        {
            ["layer", var type, var count] => Layer(group, Enum.Parse<ScalarType>(type), int.Parse(count, CultureInfo.InvariantCulture)),
            ["stream", var count] => Stream(group, int.Parse(count, CultureInfo.InvariantCulture)),
            ["fail"] => Fail(group),
            ["refuse"] => Refuse(group),
            ["exchange"] => Exchange(group),
            ["large"] => Large(group),
            _ => throw new ArgumentException(string.Join(' ', arguments)),
        };
        Console.WriteLine($"rank {group.Rank} of {group.Size}: {said}");
        return 0;
    });

    private static string Layer(MpiSequenceGroup group, ScalarType type, int count)
    {
        double tolerance = type == ScalarType.Float64 ? 1e-12 : 1e-5;
        return ForEach(SpreadCase.OfSize(group.Size), count, (spread, difference) =>
        {
            LayerRun alone = spread.Alone(null, type), own = spread.OfRank(group, null, type);
            (int start, int length) = spread.Part(group.Rank);
            difference.Add(alone.Output.narrow(1, start, length), own.Output, tolerance, "output");
            if (group.Rank == group.Size - 1)
            {
                difference.Add(alone.Memory, own.Memory, tolerance, "memory");
                difference.Add(alone.Normalizer, own.Normalizer, tolerance, "normalizer");
            }

            foreach ((string name, Tensor gradient) in own.Gradients)
            {
                Tensor expected = alone.Gradients[name];
                if (!SpreadCase.IsOfTokens(name))
                {
                    group.Sum(gradient);
                }

                difference.Add(SpreadCase.IsOfTokens(name) ? expected.narrow(1, start, length) : expected, gradient, tolerance, $"gradient of {name}");
            }
        });
    }

    private static string Stream(MpiSequenceGroup group, int count) => ForEach(SharedCase.OfSize(group.Size), count, (one, difference) =>
    {
        one.Backpropagated(group).CompareTo(one.Backpropagated(null), 1e-12, difference);
        foreach ((StreamOutcome expected, StreamOutcome actual) in one.Read(null).Zip(one.Read(group)))
        {
            actual.CompareTo(expected, 1e-12, difference);
        }
    });

    /// <summary>One rank throws while the others wait for it.</summary>
    private static string Fail(MpiSequenceGroup group)
    {
        if (group.Rank == group.Size - 1)
        {
            throw new InvalidOperationException(Failure);
        }

        group.Sum(zeros(1));
        return "was not ended";
    }

    /// <summary>The first rank's stretch is not a whole number of segments.</summary>
    private static string Refuse(MpiSequenceGroup group)
    {
        var one = new LayerCase { Segment = 4 };
        using InfiniAttentionModule layer = one.Layer();
        Tensor x = new Draw(1).Normal(1, one.Batch, group.Rank == 0 ? 7 : 8, one.EmbedDim);
        Exception? refused = Record.Exception(() => layer.ForwardFrom(null, x, group));
        return refused?.Message ?? "not refused";
    }

    /// <summary>Every exchange of the interface, with what each refuses, on tensors of several types.</summary>
    private static string Exchange(MpiSequenceGroup group)
    {
        int rank = group.Rank, size = group.Size;
        foreach (ScalarType type in new[] { ScalarType.Float32, ScalarType.Float64 })
        {
            using Tensor x = full([3, 2], rank + 1, type), sum = full([3, 2], 7, type);
            group.ExclusiveSum(x, sum).Wait();
            Difference.Close(full([3, 2], rank * (rank + 1) / 2, type), sum, 0, "sum before");
            group.ExclusiveSum(x, sum, fromLast: true).Wait();
            Difference.Close(full([3, 2], (size * (size + 1) / 2) - ((rank + 1) * (rank + 2) / 2), type), sum, 0, "sum after");
            group.Sum(x);
            Difference.Close(full([3, 2], size * (size + 1) / 2, type), x, 0, "sum");
        }

        foreach (ScalarType type in new[] { ScalarType.BFloat16, ScalarType.Int64, ScalarType.Byte })
        {
            using Tensor x = full([5], rank + 1, type), received = zeros_like(x);
            if (rank > 0)
            {
                group.Receive(received, rank - 1);
                Difference.Close(full([5], rank, type), received, 0, "received");
            }

            if (rank < size - 1)
            {
                group.Send(x, rank + 1);
            }

            group.Broadcast(x, size - 1);
            Difference.Close(full([5], size, type), x, 0, "broadcast");
        }

        using Tensor none = zeros([0, 3], ScalarType.Float32);
        group.Sum(none);
        group.Broadcast(none, 0);
        group.ExclusiveSum(none, none).Wait();
        using Tensor matrix = rand(4, 4), integers = ones(2, int64);
        Assert.Contains("not contiguous", Assert.Throws<ArgumentException>(() => group.Sum(matrix.t())).Message, StringComparison.Ordinal);
        Assert.Contains("a group adds Float32 and Float64", Assert.Throws<ArgumentException>(() => group.Sum(integers)).Message, StringComparison.Ordinal);
        Assert.Contains($"the ranks 0 to {size - 1}", Assert.Throws<ArgumentOutOfRangeException>(() => group.Send(matrix, size)).Message, StringComparison.Ordinal);
        return "exchanged";
    }

    /// <summary>A tensor that no span holds, on two ranks: broadcast and sent.</summary>
    private static string Large(MpiSequenceGroup group)
    {
        const long Last = (1L << 31) + 8;
        using Tensor bytes = zeros([Last + 1], ScalarType.Byte), end = bytes.narrow(0, Last, 1), beginning = bytes.narrow(0, 0, 1);
        end.fill_(group.Rank + 1);
        beginning.fill_(group.Rank + 1);
        group.Broadcast(bytes, 1);
        Assert.Equal([2, 2], [end.item<byte>(), beginning.item<byte>()]);
        end.fill_(5);
        if (group.Rank == 0)
        {
            group.Send(bytes, 1);
        }
        else
        {
            end.fill_(6);
            group.Receive(bytes, 0);
        }

        Assert.Equal(5, end.item<byte>());
        return "exchanged";
    }

    /// <summary>The same random cases on every rank; a failure ends the job, so nothing is made simpler.</summary>
    private static string ForEach<T>(Gen<T> cases, int count, Action<T, Difference> check)
    {
        var difference = new Difference();
        Config config = Config.QuickThrowOnFailure.WithMaxTest(count).WithQuietOnSuccess(true)
            .WithReplay(FSharpOption<Replay>.Some(new Replay(new Rnd(2024, 11), FSharpOption<int>.None)));
        Prop.ForAll(Arb.From(cases), (T one) =>
        {
            using var scope = NewDisposeScope();
            check(one, difference);
        }).Check(config);
        return difference.ToString();
    }
}
