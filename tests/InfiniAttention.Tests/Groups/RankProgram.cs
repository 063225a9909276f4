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

    public static int Run(string[] arguments) => MpiSequenceGroup.Run(group =>
    {
        set_num_threads(1);
        string said = arguments switch
        {
            ["layer", var type, var count] => Layer(group, Enum.Parse<ScalarType>(type), int.Parse(count, CultureInfo.InvariantCulture)),
            ["stream", var count] => Stream(group, int.Parse(count, CultureInfo.InvariantCulture)),
            ["fail"] => Fail(group),
            ["refuse"] => Refuse(group),
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
