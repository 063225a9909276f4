namespace InfiniAttention.Benchmarks;

/// <summary>A measurement failed or would be meaningless: the program prints the message in one line and exits.</summary>
internal sealed class MeasurementException(string message) : Exception(message);
