using System.CommandLine;
using System.Globalization;
using System.IO.Compression;
using static TorchSharp.torch;

namespace LongContext.Generate;

/// <summary><c>logits</c>: compares a model's logits with those that another program gave for the same tokens.</summary>
public static class LogitsCommand
{
    public static Command Create()
    {
        var model = ModelOptions.Folder();
        var shape = new ModelOptions();
        var expected = new Option<FileInfo>("--expected") { Description = "A line a token: the token, then its logits; plain text or .gz.", Required = true };
        var command = new Command("logits", "Compares a model's logits with those that another program gave.") { model, expected };
        shape.AddTo(command);
        command.SetAction(arguments =>
        {
            using var scope = NewDisposeScope();
            using var mode = inference_mode();
            using var pretrained = shape.Load(arguments, arguments.GetValue(model)!);
            var (tokens, logits) = Read(arguments.GetValue(expected)!.FullName, pretrained.Decoder.Config.Vocabulary);
            var count = Math.Min(tokens.size(1), pretrained.Decoder.Attention.SegmentLength);
            var given = logits.narrow(1, 0, count);
            var difference = pretrained.Decoder.call(tokens.narrow(1, 0, count)).cpu().sub(given).abs().max().item<float>();
            var largest = given.abs().max().item<float>();
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{count} tokens, up to the first boundary: logits differ by at most {difference:0.0e+0} of {largest:0.0}"));
            return Cli.Success;
        });
        return command;
    }

    /// <summary>Tokens (1, T) and logits (1, T, vocabulary).</summary>
    public static (Tensor Tokens, Tensor Logits) Read(string path, long vocabulary)
    {
        using var file = File.OpenRead(path);
        using var reader = new StreamReader(path.EndsWith(".gz", StringComparison.Ordinal) ? new GZipStream(file, CompressionMode.Decompress) : file);
        var (tokens, logits) = (new List<long>(), new List<float>());
        while (reader.ReadLine() is { } line)
        {
            var numbers = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (numbers.Length != vocabulary + 1 || !long.TryParse(numbers[0], NumberStyles.None, CultureInfo.InvariantCulture, out var token) || token >= vocabulary)
            {
                throw new InputException($"Line {tokens.Count + 1} of '{path}' is not a token and the {vocabulary} logits of the model's vocabulary.");
            }

            tokens.Add(token);
            logits.AddRange(numbers.Skip(1).Select(number => float.TryParse(number, NumberStyles.Float, CultureInfo.InvariantCulture, out var logit)
                ? logit : throw new InputException($"Line {tokens.Count} of '{path}' holds '{number}', which is not a number.")));
        }

        return tokens.Count > 0
            ? (tensor([.. tokens], int64).unsqueeze(0), tensor([.. logits], [1, tokens.Count, vocabulary], float32))
            : throw new InputException($"'{path}' holds no logits.");
    }
}
