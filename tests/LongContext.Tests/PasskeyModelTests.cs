using InfiniAttention;
using LongContext.Models;
using LongContext.Passkey;
using static TorchSharp.torch;

namespace LongContext.Tests;

public class PasskeyModelTests
{
    [Theory]
    [InlineData(MemoryUpdate.Linear)]
    [InlineData(MemoryUpdate.Delta)]
    public void Streamed_logits_equal_those_of_one_call(MemoryUpdate update)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var model = Small(update);
        var tokens = randint(0, 256, [2, 83]);
        var whole = model.call(tokens);

        using var streamer = new SegmentStreamer(model);
        Tensor[] parts = [streamer.Forward(tokens.narrow(1, 0, 40)), streamer.Forward(tokens.narrow(1, 40, 1)), streamer.Forward(tokens.narrow(1, 41, 42))];

        Assert.True(allclose(whole, cat(parts, 1), rtol: 1e-4, atol: 1e-5));
    }

    [Fact]
    public void Tokens_of_later_segments_depend_on_the_first_segment()
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var model = Small(MemoryUpdate.Linear);
        var tokens = randint(0, 256, [1, 64]);
        var other = tokens.clone();
        other[0, 3] = (tokens[0, 3] + 1) % 256;

        var difference = (model.call(tokens) - model.call(other)).abs().amax([0, 2]).data<float>().ToArray();

        Assert.All(difference[..3], value => Assert.Equal(0, value));
        Assert.All(difference[16..], value => Assert.NotEqual(0, value));
    }

    [Fact]
    public void Gates_start_as_the_options_say()
    {
        using var model = Small(MemoryUpdate.Linear);

        Assert.Equal([[-4f, -4f], [-2f, 2f]], InfiniAttentionModule.GateParameters(model).Select(gate => gate.detach().data<float>().ToArray()));
    }

    [Fact]
    public void The_model_has_the_expected_number_and_names_of_weights()
    {
        using var model = new PasskeyModel().Create();

        Assert.Equal(99_012, model.parameters().Sum(parameter => parameter.numel()));
        Assert.Contains("model.layers.1.self_attn.q_proj.weight", model.state_dict().Keys);
    }

    internal static Decoder Small(MemoryUpdate update)
    {
        manual_seed(1);
        return new PasskeyModel { Update = update, SegmentLength = 16, Width = 32 }.Create();
    }
}
