using System.Diagnostics.CodeAnalysis;

// Seeds and default types are process-wide in libtorch, and it uses all cores by itself.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
[assembly: SuppressMessage("Reliability", "CA2000", Justification = "Tensors die with the dispose scope of their test.")]
