namespace InfiniAttention.Benchmarks;

/// <summary>A measurement failed or would say nothing: the program says the message in one line and ends.</summary>
internal sealed class MeasurementException(string message) : Exception(message);
