using FsCheck;
using FsCheck.Fluent;
using Xunit.Abstractions;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>No output depends on later tokens.</summary>
public class CausalityTests(ITestOutputHelper output)
{
    private static readonly Arbitrary<(LayerCase Case, int At)> WithPosition = Arb.From(
        from one in LayerCase.Generator
        where one.Length > 1
        from at in Gen.Choose(1, one.Length - 1)
        select (one, at));

    [Fact]
    public void Changing_a_token_changes_no_output_before_it() =>
        Property.Holds(output, WithPosition, 100, 4, (changed, difference) =>
        {
            (LayerCase one, int at) = changed;
            InfiniAttentionModule layer = one.Layer();
            Tensor x = one.Input().detach();
            TokenInfo? info = one.Info();
            Tensor other = x.clone();
            other.narrow(1, at, 1).add_(10);

            Tensor before = layer.forward(x, info).narrow(1, 0, at);
            Tensor after = layer.forward(other, Changed(info, at)).narrow(1, 0, at);
            difference.Add(before, after, 1e-12, $"outputs before {at}");
        });

    [Fact]
    public void Changing_a_token_changes_no_output_before_it_in_training_with_dropout() =>
        Property.Holds(output, WithPosition, 50, 5, (changed, difference) =>
        {
            (LayerCase one, int at) = changed;
            InfiniAttentionModule layer = Layers.With(one.Options() with { Dropout = 0.3 }, one.Weights());
            layer.train();
            Tensor x = one.Input().detach();
            Tensor other = x.clone();
            other.narrow(1, at, 1).add_(10);

            manual_seed(7);
            Tensor before = layer.forward(x, one.Info()).narrow(1, 0, at);
            manual_seed(7);
            Tensor after = layer.forward(other, one.Info()).narrow(1, 0, at);
            difference.Add(before, after, 1e-12, $"outputs before {at}");
        });

    [Fact]
    public void The_gradient_of_an_output_is_zero_for_every_later_token() =>
        Property.Holds(output, WithPosition, 50, 6, (changed, difference) =>
        {
            (LayerCase one, int at) = changed;
            Tensor x = one.Input();
            Tensor early = one.Layer().forward(x, one.Info()).narrow(1, 0, at);
            LayerRun.Probe(one.Seed, early).backward();
            Tensor late = x.grad!.narrow(1, at, one.Length - at);
            difference.Add(zeros_like(late), late, 0, $"gradient from {at} on");
        });

    /// <summary>Inverts the flags of the token at a position and changes its write weight.</summary>
    private static TokenInfo? Changed(TokenInfo? info, int at)
    {
        Tensor? Flip(Tensor? flags)
        {
            Tensor? copy = flags?.clone();
            copy?.narrow(1, at, 1).copy_(~flags!.narrow(1, at, 1));
            return copy;
        }

        Tensor? writes = info?.WriteWeights?.detach().clone();
        writes?.narrow(1, at, 1).add_(1);
        return info is null ? null : new TokenInfo { KeyPaddingMask = Flip(info.KeyPaddingMask), DocumentStarts = Flip(info.DocumentStarts), WriteWeights = writes };
    }
}
