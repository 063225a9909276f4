using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>A linear layer with a low-rank addition that starts at 0.</summary>
internal sealed class Adapted : nn.Module<Tensor, Tensor>
{
    private readonly Linear main, down, up;

    public Adapted(long inputs, long outputs)
        : base(nameof(Adapted))
    {
        (main, down, up) = (nn.Linear(inputs, outputs, false), nn.Linear(inputs, 2, false), nn.Linear(2, outputs, false));
        nn.init.zeros_(up.weight);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => main.call(x) + up.call(down.call(x));
}

/// <summary>A linear layer that computes with the tokens before the rows, so that what it returns is not contiguous.</summary>
internal sealed class TokensFirst : nn.Module<Tensor, Tensor>
{
    private readonly Linear linear;

    public TokensFirst(Linear linear)
        : base(nameof(TokensFirst))
    {
        this.linear = linear;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x) => linear.call(x.transpose(0, 1).contiguous()).transpose(0, 1);
}
