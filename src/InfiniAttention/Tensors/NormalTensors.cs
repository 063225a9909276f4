using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Until it is disposed of, new tensors are normal ones even in inference mode, so that a stream can be continued outside that mode.</summary>
internal sealed class NormalTensors : IDisposable
{
    private readonly IDisposable? noInference;
    private readonly IDisposable? noGrad;

    public NormalTensors()
    {
        if (is_inference_mode_enabled())
        {
            noInference = inference_mode(false);
            noGrad = no_grad();
        }
    }

    public void Dispose()
    {
        noGrad?.Dispose();
        noInference?.Dispose();
    }
}
