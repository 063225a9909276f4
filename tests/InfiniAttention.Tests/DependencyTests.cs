using System.Reflection;

namespace InfiniAttention.Tests;

public class DependencyTests
{
    [Fact]
    public void The_library_depends_on_TorchSharp_and_nothing_else()
    {
        var others = Assembly.Load("InfiniAttention").GetReferencedAssemblies()
            .Select(reference => reference.Name!)
            .Where(name => name != "TorchSharp" && !name.StartsWith("System.", StringComparison.Ordinal));
        Assert.Empty(others);
    }
}
