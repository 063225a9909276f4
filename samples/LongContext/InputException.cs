namespace LongContext;

/// <summary>Something the user can put right: the program says the message in one line and ends with exit code 1, as it does for a file that fails it.</summary>
public sealed class InputException(string message) : Exception(message);
