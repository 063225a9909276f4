using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace LongContext.Models;

/// <summary>The adapters of a continued training (LoRA; Hu et al., arXiv 2106.09685).</summary>
/// <param name="Rank">r</param>
/// <param name="Alpha">What an adapter adds is multiplied by alpha / r.</param>
public sealed record LoraSettings(int Rank, double Alpha)
{
    /// <summary>Checks that a model can have such adapters.</summary>
    /// <exception cref="InputException">The rank or alpha is out of range.</exception>
    public void Check(DecoderConfig config)
    {
        var largest = Math.Min(config.Width, config.KeyValueHeads * config.HeadWidth);
        if (Rank < 1 || Rank > largest)
        {
            throw new InputException($"The rank of the adapters is {Rank}; it must be from 1 to {largest}, the width of the model's narrowest projection.");
        }

        if (!(Alpha > 0 && double.IsFinite(Alpha)))
        {
            throw new InputException($"The alpha of the adapters is {Alpha}; it must be greater than 0.");
        }
    }
}

/// <summary>
/// W x + b + (alpha / r) B A x: a frozen linear layer and its adapter, which adds nothing at first. W and b are <c>weight</c> and <c>bias</c> as in <c>nn.Linear</c>, and all that is
/// there once the adapter is merged, so that what reads and writes the weights of attention blocks then does so here too.
/// </summary>
public sealed class LoraLinear : nn.Module<Tensor, Tensor>
{
    private readonly Parameter weight; // (outputs, inputs)
    private readonly Parameter? bias; // (outputs)
    private readonly Scalar scale;
    private Parameter? lora_A, lora_B; // (r, inputs), (outputs, r); null once they are merged

    /// <summary>Takes over a linear layer's tensors, without copying them.</summary>
    public LoraLinear(Tensor weight, Tensor? bias, LoraSettings settings) : base(nameof(LoraLinear))
    {
        this.weight = new Parameter(weight.detach(), requires_grad: false);
        this.bias = bias is null ? null : new Parameter(bias.detach(), requires_grad: false);
        lora_A = new Parameter(nn.init.kaiming_uniform_(weight.new_empty(settings.Rank, weight.size(1)), Math.Sqrt(5)));
        lora_B = new Parameter(weight.new_zeros(weight.size(0), settings.Rank));
        scale = settings.Alpha / settings.Rank;
        RegisterComponents();
    }

    /// <summary>Whether an entry of a <c>state_dict</c> is of an adapter.</summary>
    public static bool IsOfAdapter(string name) => name.EndsWith($".{nameof(lora_A)}", StringComparison.Ordinal) || name.EndsWith($".{nameof(lora_B)}", StringComparison.Ordinal);

    public override Tensor forward(Tensor x)
    {
        if (lora_A is null || lora_B is null)
        {
            return nn.functional.linear(x, weight, bias);
        }

        using var scope = NewDisposeScope();
        var added = nn.functional.linear(nn.functional.linear(x, lora_A), lora_B);
        return nn.functional.linear(x, weight, bias).add(added, scale).MoveToOuterDisposeScope();
    }

    /// <summary>Adds the adapter to the weight, which becomes W + (alpha / r) B A, and removes it.</summary>
    public void Merge()
    {
        if (lora_A is null || lora_B is null)
        {
            return;
        }

        using (NewDisposeScope())
        using (no_grad())
        {
            weight.add_(lora_B.matmul(lora_A), scale);
        }

        ConditionallyRegisterParameter(nameof(lora_A), null!);
        ConditionallyRegisterParameter(nameof(lora_B), null!);
        lora_A.Dispose();
        lora_B.Dispose();
        (lora_A, lora_B) = (null, null);
    }
}
