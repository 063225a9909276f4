// The assertions of this project hold for TorchSharp itself; the subset has to meet them as well. What holds for the subset alone is
// under TORCH_SUBSET. Seeds and default types belong to the process: nothing runs in parallel.
global using TorchSharp;
global using TorchSharp.Modules;
global using static TorchSharp.torch;

[assembly: CollectionBehavior(DisableTestParallelization = true)]
