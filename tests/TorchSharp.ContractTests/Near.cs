namespace TorchSharp.ContractTests;

/// <summary>Comparisons of tensors with values written by hand.</summary>
internal static class Near
{
    internal static void Equal(double[] expected, Tensor actual, double tolerance = 1e-5)
    {
        using var scope = NewDisposeScope();
        var values = actual.detach().to(ScalarType.Float64).cpu().contiguous().flatten().data<double>().ToArray();
        Assert.Equal(expected.Length, values.Length);
        for (var i = 0; i < expected.Length; i++)
            if (!expected[i].Equals(values[i]) && !(Math.Abs(expected[i] - values[i]) <= tolerance * Math.Max(1, Math.Abs(expected[i]))))
                Assert.Fail($"element {i}: expected {expected[i]}, got {values[i]}");
    }

    internal static void Equal(Tensor expected, Tensor actual, double tolerance = 1e-5)
    {
        Assert.Equal(expected.shape, actual.shape);
        using var scope = NewDisposeScope();
        Equal(expected.detach().to(ScalarType.Float64).cpu().contiguous().flatten().data<double>().ToArray(), actual, tolerance);
    }
}
