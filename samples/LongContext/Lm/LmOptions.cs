using System.CommandLine;
using System.Numerics;
using LongContext.Comparison;
using LongContext.LanguageModel;

namespace LongContext.Lm;

/// <summary>The options of a training: what is read, the model's sizes, and where results are kept.</summary>
/// <param name="defaultOutput">Where results are kept if no folder is given.</param>
public sealed class LmOptions(string defaultOutput = LmOptions.DefaultOutput)
{
    private const string DefaultOutput = "artifacts/lm";

    private readonly Option<string[]> text = new("--text") { Description = "Text files, or folders of them, to train on; default: made-up chronicles.", AllowMultipleArgumentsPerToken = true };
    private readonly Option<FileInfo?> heldOut = new("--held-out") { Description = "The text that is held out; needed with --text." };
    private readonly Option<int> vocabulary = new("--vocabulary")
    {
        Description = "Tokens of a text: 256 for its bytes, up to 2048 with pairs that are learned from it.",
        DefaultValueFactory = _ => 1024,
    };

    private readonly Option<int> people = new("--people") { Description = "People of a chronicle, 2 to 32.", DefaultValueFactory = _ => 16 };
    private readonly Option<string> tokens = new("--tokens") { Description = "How many tokens each system reads after the base.", DefaultValueFactory = _ => "3M" };
    private readonly Option<DirectoryInfo?> from = new("--from")
    {
        Description = "The output folder of another experiment, perhaps with other segments: systems go on from their weights there, and there is no base.",
    };

    private readonly Option<string> baseTokens = new("--base-tokens") { Description = "How many tokens the base reads.", DefaultValueFactory = _ => "1200K" };
    private readonly Option<string> document = new("--document")
    {
        Description = "Tokens of a training document, over which memory is carried: a multiple of --step.",
        DefaultValueFactory = _ => "2K",
    };

    private readonly Option<string> step = new("--step")
    {
        Description = "Tokens of a document that a training step reads, and through which its gradients flow: a multiple of --segment.",
        DefaultValueFactory = _ => "1K",
    };

    private readonly Option<int> rows = new("--rows") { Description = "Documents that a training step reads side by side.", DefaultValueFactory = _ => 2 };
    private readonly Option<string> heldOutTokens = new("--held-out-tokens")
    {
        Description = "How many tokens of each held-out document are read.",
        DefaultValueFactory = _ => "8K",
    };

    private readonly Option<double> rate = new("--rate") { Description = "The learning rate of a system.", DefaultValueFactory = _ => 4e-3 };
    private readonly Option<int> segment = new("--segment") { Description = "N, tokens of a segment: a power of two from 8 to 1024.", DefaultValueFactory = _ => 128 };
    private readonly Option<int> width = new("--width") { Description = "Width of the model.", DefaultValueFactory = _ => 96 };
    private readonly Option<int> layers = new("--layers") { Description = "Layers.", DefaultValueFactory = _ => 2 };
    private readonly Option<int> heads = new("--heads") { Description = "Heads of a layer.", DefaultValueFactory = _ => 3 };
    private readonly Option<int> headWidth = new("--head-width") { Description = "Width of a head, even.", DefaultValueFactory = _ => 32 };
    private readonly Option<DirectoryInfo?> log = new("--log") { Description = "A folder for TensorBoard: losses and gates." };
    private readonly Option<bool> resume = new("--resume") { Description = "Goes on with the experiment of the output folder as it was begun, with no other option of the training." };
    private readonly Option<DirectoryInfo> output = OutputOption(defaultOutput);

    internal static Option<DirectoryInfo> OutputOption(string folder = DefaultOutput) => ComparisonOptions.Output(folder);

    internal Option From => from;

    private Option[] OfExperiment => [text, heldOut, vocabulary, people, tokens, from, baseTokens, document, step, rows, heldOutTokens, rate, segment, width, layers, heads, headWidth];

    public void AddTo(Command command)
    {
        foreach (var option in OfExperiment.Concat([log, resume, output]))
        {
            command.Options.Add(option);
        }
    }

    public string Folder(ParseResult arguments) => arguments.GetValue(output)!.FullName;

    /// <summary>The run that the arguments ask for.</summary>
    public ComparisonRun Run(ParseResult arguments, IReadOnlyList<ComparedSystem> systems, IReadOnlyList<int> seeds, int workers) =>
        new(Experiment(arguments), Folder(arguments), systems, seeds) { Workers = workers, Log = Log(arguments) };

    public string? Log(ParseResult arguments) => arguments.GetValue(log)?.FullName;

    /// <summary>The experiment that the arguments describe, or that of the folder if it is resumed.</summary>
    /// <param name="arguments">What was given.</param>
    /// <param name="others">Other options that describe the experiment.</param>
    public Experiment Experiment(ParseResult arguments, params IEnumerable<Option> others)
    {
        if (!IsResumed(arguments))
        {
            return ToExperiment(arguments);
        }

        arguments.Refuse([.. OfExperiment, .. others], "--resume goes on with the experiment as it was begun");
        return Comparison.Experiment.Load(Folder(arguments));
    }

    /// <summary>Whether segments can have n tokens.</summary>
    internal static bool IsSegment(int n, long longest) => n >= 8 && n <= longest && BitOperations.IsPow2(n);

    public bool IsResumed(ParseResult arguments) => arguments.GetValue(resume);

    private Experiment ToExperiment(ParseResult arguments)
    {
        var (length, stepTokens, n) = (TokenCount.Parse(arguments.GetValue(document)!), TokenCount.Parse(arguments.GetValue(step)!), arguments.GetValue(segment));
        if (!IsSegment(n, 1024))
        {
            throw new InputException($"--segment is {n}; it must be a power of two from 8 to 1024.");
        }

        if (stepTokens % n != 0)
        {
            throw new InputException($"--step is {stepTokens}; it must be a multiple of the segment of {n} tokens.");
        }

        if (length % stepTokens != 0 || length > 1 << 20)
        {
            throw new InputException($"--document is {length}; it must be a multiple of the {stepTokens} tokens of a step, and at most 1M.");
        }

        if (arguments.GetValue(headWidth) % 2 != 0)
        {
            throw new InputException($"--head-width is {arguments.GetValue(headWidth)}; it must be even, for rotary positions.");
        }

        var peopleCount = arguments.GetValue(people);
        if (peopleCount is < 2 or > Chronicle.FirstNames)
        {
            throw new InputException($"--people is {peopleCount}; it must be from 2 to {Chronicle.FirstNames}.");
        }

        if (arguments.GetValue(from) is not null)
        {
            arguments.Refuse([baseTokens], "With --from there is no base");
        }

        var files = Text(arguments);
        return new Experiment
        {
            Text = files,
            People = peopleCount,
            Tokens = TokenCount.Parse(arguments.GetValue(tokens)!),
            From = arguments.GetValue(from)?.FullName,
            BaseTokens = TokenCount.Parse(arguments.GetValue(baseTokens)!),
            Rows = arguments.AtLeast(1, rows),
            StepTokens = (int)stepTokens,
            StepsOfDocument = (int)(length / stepTokens),
            HeldOutTokens = (int)Math.Min(1 << 28, TokenCount.Parse(arguments.GetValue(heldOutTokens)!)),
            Rate = arguments.Rate(rate),
            Sizes = new DecoderOptions
            {
                Vocabulary = files?.Vocabulary ?? Chronicle.Vocabulary,
                SegmentLength = n,
                Width = arguments.AtLeast(1, width),
                Layers = arguments.AtLeast(1, layers),
                Heads = arguments.AtLeast(1, heads),
                HeadWidth = arguments.AtLeast(1, headWidth),
            },
        };
    }

    private TextFiles? Text(ParseResult arguments)
    {
        var (given, last) = (arguments.GetValue(text), arguments.GetValue(heldOut));
        if (given is not { Length: > 0 })
        {
            arguments.Refuse([vocabulary], "--vocabulary is of --text, which is not given");
            return last is null ? null : throw new InputException("--held-out needs --text, the files to train on.");
        }

        arguments.Refuse([people], "--people is of chronicles, and --text is given");

        if (last is null)
        {
            throw new InputException("--text needs --held-out, a text that is in no training.");
        }

        string[] files = [.. given.SelectMany(Files).Select(Path.GetFullPath).Where(path => path != last.FullName)];
        if (files.Append(last.FullName).FirstOrDefault(path => !File.Exists(path)) is { } missing)
        {
            throw new InputException($"There is no file '{missing}'.");
        }

        var tokensOfText = arguments.GetValue(vocabulary);
        return tokensOfText is >= BytePairs.Bytes and <= BytePairs.LargestVocabulary && files.Length > 0
            ? new(files, last.FullName, tokensOfText)
            : throw new InputException(files.Length == 0
                ? "--text names no file to train on."
                : $"--vocabulary is {tokensOfText}; it must be from {BytePairs.Bytes} to {BytePairs.LargestVocabulary}.");

        static IEnumerable<string> Files(string path) => Directory.Exists(path) ? Directory.GetFiles(path).Order(StringComparer.Ordinal) : [path];
    }
}
