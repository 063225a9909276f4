using System.CommandLine;
using System.Globalization;
using LongContext.Generate;
using Spectre.Console;
using static TorchSharp.torch;

namespace LongContext.Summaries;

/// <summary><c>summary</c>: a model that writes the summary of a long text from its memory.</summary>
public static class SummaryCommand
{
    /// <summary>Of the paper's summaries.</summary>
    private const double Temperature = 0.5, TopP = 0.95;

    /// <summary>Tokens of a generated text at most: several texts of it fit into the heap.</summary>
    private const int LongestText = 1 << 20;

    public static Command Create() => new("summary", "Summaries of long texts: trains a model to write them, and measures them by how much of a text was read.")
    {
        SummaryTrainCommand.Create(), Eval(),
    };

    internal static Option<DirectoryInfo> FolderOption() => new("--output") { Description = "The folder of the model and its results.", DefaultValueFactory = _ => new("artifacts/summary") };

    private static Command Eval()
    {
        var read = new Option<string>("--read") { Description = "How much of each text is read, in %.", DefaultValueFactory = _ => "12.5,25,50,100" };
        var pairs = new Option<FileInfo?>("--pairs")
        {
            Description = """Texts with their summaries, a line of JSON each: {"text": "...", "summary": "..."}. Default: the held-out pairs of the training, or generated ones.""",
        };
        var documents = new Option<int>("--documents") { Description = "How many texts are read, of a file at most.", DefaultValueFactory = _ => 40 };
        var length = new Option<string>("--length") { Description = "Tokens of a generated text with its summary.", DefaultValueFactory = _ => "2K" };
        var most = new Option<int>("--most") { Description = "The most tokens of a summary.", DefaultValueFactory = _ => 160 };
        var sample = new Option<bool>("--sample") { Description = "Draws the tokens at temperature 0.5 and top-p 0.95, as in the paper; otherwise the likeliest is taken." };
        var seed = new Option<int>("--seed") { Description = "The seed of --sample.", DefaultValueFactory = _ => 1 };
        var output = FolderOption();
        var command = new Command("eval", "Reads the first part of texts and writes their summaries, with the memory and without it.") { read, pairs, documents, length, most, sample, seed, output };
        command.SetAction((arguments, cancellation) => Task.Run(() =>
        {
            var percents = arguments.GetValue(read)!.Split(',', StringSplitOptions.TrimEntries).Select(ParsePercent).Distinct().ToArray();
            var (count, mostTokens, tokens) = (arguments.AtLeast(1, documents), arguments.AtLeast(1, most), TokenCount.Parse(arguments.GetValue(length)!));
            if (tokens > LongestText)
            {
                throw new InputException($"--length is {tokens}; it must be at most {TokenCount.Format(LongestText)}.");
            }

            if (!arguments.GetValue(sample))
            {
                arguments.Refuse([seed], "--seed is of --sample, which is not given");
            }

            var folder = new SummaryFolder(arguments.GetValue(output)!.FullName);
            var (settings, encoding) = folder.Load();
            var file = arguments.GetValue(pairs)?.FullName ?? settings.HeldOutPairs;
            var texts = file is null ? new YearBookExamples(encoding).HeldOut(count, (int)tokens) : [.. SummaryPair.Read(file).Take(count)];
            set_num_threads(1); // the kernels are too small to split across threads
            using var model = folder.Model(settings);
            var writer = new SummaryWriter(model, encoding, mostTokens, arguments.GetValue(sample) ? new Sampler(Temperature, TopP, arguments.GetValue(seed)) : Sampler.Greedy());
            var evaluation = new SummaryEvaluation(texts, percents, knowsFacts: file is null, settings.IsLocal);
            IReadOnlyList<SummaryResult> results = [];
            AnsiConsole.Progress().Start(display =>
            {
                var bar = display.AddTask("summaries written", maxValue: evaluation.Count);
                results = evaluation.Run(model, writer.Write, () => bar.Increment(1), cancellation);
            });
            if (cancellation.IsCancellationRequested)
            {
                AnsiConsole.WriteLine("Interrupted: nothing was written.");
                return Cli.Interrupted;
            }

            if (results.Count > 0)
            {
                var report = new SummaryReport(results);
                AnsiConsole.Write(report.ToTable());
                Cli.WriteFiles(folder.Location, report.Files());
            }

            return Cli.Success;
        }));
        return command;
    }

    private static double ParsePercent(string text) => double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out var percent) && percent is > 0 and <= 100
        ? percent : throw new InputException($"--read holds '{text}'; each number must be above 0 and at most 100.");
}
