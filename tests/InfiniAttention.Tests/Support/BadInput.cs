using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>Checks of refusals: an <see cref="ArgumentException"/> that says what was given and what is allowed.</summary>
internal static class BadInput
{
    /// <summary>The action must throw, and its message must name the parameter and all the words.</summary>
    public static void IsRefused(Action action, string parameter, params string[] words)
    {
        using var scope = NewDisposeScope();
        var error = Assert.ThrowsAny<ArgumentException>(action);
        Assert.Equal(parameter, error.ParamName);
        foreach (string word in words)
        {
            Assert.Contains(word, error.Message, StringComparison.OrdinalIgnoreCase);
        }
    }
}
