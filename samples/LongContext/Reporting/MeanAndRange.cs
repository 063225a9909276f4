using System.Globalization;

namespace LongContext;

/// <summary>Numbers of several seeds as people read them.</summary>
public static class MeanAndRange
{
    /// <summary>The mean, and below it the range; of one number, the number.</summary>
    public static string Text(IReadOnlyList<double> numbers, string format)
    {
        return numbers.Count == 1 ? One(numbers[0]) : $"{One(numbers.Average())}\n({One(numbers.Min())} to {One(numbers.Max())})";

        string One(double number) => number.ToString(format, CultureInfo.InvariantCulture);
    }
}
