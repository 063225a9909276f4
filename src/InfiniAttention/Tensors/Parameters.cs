using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention;

/// <summary>Creates the parameters of the library's modules.</summary>
internal static class Parameters
{
    /// <summary>A parameter that outlives the dispose scope in which its module is created.</summary>
    public static Parameter Own(Tensor tensor) => (Parameter)new Parameter(tensor).DetachFromDisposeScope();
}
