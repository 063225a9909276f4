using System.CommandLine;

namespace LongContext;

/// <summary>Checks of what options were given.</summary>
internal static class OptionChecks
{
    /// <summary>Whether the option stands on the command line.</summary>
    public static bool IsGiven(this ParseResult arguments, Option option) => arguments.GetResult(option) is { Implicit: false };

    /// <exception cref="InputException">One of the options is given.</exception>
    public static void Refuse(this ParseResult arguments, IEnumerable<Option> options, string because)
    {
        if (options.FirstOrDefault(arguments.IsGiven) is { } given)
        {
            throw new InputException($"{because}: leave {given.Name} out.");
        }
    }

    /// <exception cref="InputException">The number is less than <paramref name="least"/>.</exception>
    public static int AtLeast(this ParseResult arguments, int least, Option<int> option) => arguments.GetValue(option) is var number && number >= least
        ? number
        : throw new InputException($"{option.Name} is {number}; it must be at least {least}.");

    /// <summary>A learning rate, from 0 to below 1.</summary>
    /// <exception cref="InputException">It is outside of that range.</exception>
    public static double Rate(this ParseResult arguments, Option<double> option) => arguments.GetValue(option) is >= 0 and < 1 and var rate
        ? rate
        : throw new InputException($"{option.Name} must be at least 0 and less than 1.");
}
