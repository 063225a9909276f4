using FsCheck;
using FsCheck.Fluent;
using Microsoft.FSharp.Core;
using Xunit.Abstractions;

namespace InfiniAttention.Tests;

/// <summary>Runs a property over seeded random cases; a failure names the seed, the case and its smallest failing form.</summary>
internal static class Property
{
    private const ulong Gamma = 0x9E3779B97F4A7C15;

    public static void Holds<T>(ITestOutputHelper output, Arbitrary<T> cases, int count, ulong seed, Action<T, Difference> check)
    {
        var difference = new Difference();
        int run = 0;
        Config config = Config.QuickThrowOnFailure.WithMaxTest(count).WithQuietOnSuccess(true)
            .WithReplay(FSharpOption<Replay>.Some(new Replay(new Rnd(seed, Gamma), FSharpOption<int>.None)));
        Prop.ForAll(cases, (T one) =>
        {
            using var scope = TorchSharp.torch.NewDisposeScope();
            run++;
            check(one, difference);
        }).Check(config);
        output.WriteLine($"{run} cases from seed {seed}: {difference}");
    }
}
