namespace InfiniAttention;

/// <summary>Checks of options, whose errors say what was given and what is allowed.</summary>
internal static class OptionChecks
{
    public static void AtLeastOne(long? value, string name) => Require(value is null or >= 1, name, value, "an integer of at least 1");

    public static void Positive(double? value, string name) => Require(value is null or (> 0 and < double.PositiveInfinity), name, value, "a finite number greater than 0");

    /// <summary>Whether there is one positive number for each of the rotated pairs.</summary>
    public static void OnePerPair(IReadOnlyList<double> values, string name, long pairs) => Require(
        values is not null && values.Count == pairs && values.All(value => value is > 0 and < double.PositiveInfinity), name,
        values is null ? null : $"[{string.Join(", ", values)}]", $"one finite number greater than 0 for each of the {pairs} rotated pairs of a head");

    public static void Require(bool holds, string name, object? given, string allowed)
    {
        if (!holds)
        {
            throw new ArgumentException($"{name} is {given}; it must be {allowed}.", name);
        }
    }
}
