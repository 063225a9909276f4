namespace LongContext;

/// <summary>An error that the user can fix: the program prints the message in one line and ends with exit code 1, as it does for a file that cannot be read or written.</summary>
public sealed class InputException(string message) : Exception(message);
