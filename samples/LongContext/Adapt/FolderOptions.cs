using System.CommandLine;
using InfiniAttention;
using LongContext.Models;

namespace LongContext.Adapt;

/// <summary>The options of <c>adapt</c> that concern a model that people have.</summary>
internal sealed class FolderOptions
{
    private readonly Option<DirectoryInfo?> model = new("--model") { Description = "A Hugging Face or llama2.c folder to convert and to continue, in place of a model that is trained first." };
    private readonly Option<FileInfo[]> text = new("--text") { Description = "With --model: text files to continue on.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [] };
    private readonly Option<FileInfo[]> heldOut = new("--held-out")
    {
        Description = "With --model: text files for the evaluation; default: the last tenth of each text.",
        AllowMultipleArgumentsPerToken = true,
        DefaultValueFactory = _ => [],
    };
    private readonly Option<DirectoryInfo?> output = new("--output") { Description = "With --model: the folder for the result, and for what an interrupted training goes on from." };
    private readonly Option<int?> segment = new("--segment") { Description = "With --model: tokens of a segment; default: what the model sees, at most 2048." };
    private readonly Option<double> gate = new("--gate") { Description = "With --model: the initial gates, beta.", DefaultValueFactory = _ => new ConversionOptions().GateInit };
    private readonly Option<string?> length = new("--length") { Description = "With --model: tokens of a training sequence; default: eight segments." };
    private readonly Option<double> rate = new("--rate") { Description = "With --model: the learning rate of the weights.", DefaultValueFactory = _ => 1e-4 };
    private readonly Option<int> batch = new("--batch") { Description = "With --model: sequences of a step.", DefaultValueFactory = _ => 1 };
    private readonly Option<int> heldOutSequences = new("--held-out-sequences") { Description = "With --model: how many sequences of the held-out text are read.", DefaultValueFactory = _ => 8 };
    private readonly Option<int?> lora = new("--lora") { Description = "With --model: trains adapters of this rank on the projections of the attention, and the gates; all else stays as it is." };
    private readonly Option<double?> alpha = new("--alpha") { Description = "With --lora: what an adapter adds is multiplied by alpha over the rank; default: the rank." };
    private readonly Option<bool> fromScratch = new("--from-scratch") { Description = "With --model: draws new weights at random; of the folder only config.json and the tokenizer are read." };
    private readonly Option<DirectoryInfo?> log = new("--log") { Description = "With --model: a folder for TensorBoard: loss, gates, norms of memories." };

    private Option[] WithModel => [text, heldOut, output, segment, gate, length, batch, rate, lora, alpha, fromScratch, heldOutSequences, log];

    public void AddTo(Command command)
    {
        foreach (var option in WithModel.Prepend(model))
        {
            command.Options.Add(option);
        }
    }

    /// <summary>What is asked for; null without --model.</summary>
    public FolderAdaptationSettings? Settings(ParseResult arguments, MemoryUpdate rule, MemoryVariant memory, int steps, int seed)
    {
        if (arguments.GetValue(model) is not { } folder)
        {
            return WithModel.FirstOrDefault(arguments.IsGiven) is { } ofFolder ? throw new InputException($"{ofFolder.Name} needs --model, the folder of a model.") : null;
        }

        return new()
        {
            Model = folder.FullName,
            Output = arguments.GetValue(output)?.FullName ?? throw new InputException("--model needs --output, the folder for the result."),
            Texts = arguments.GetValue(text) is { Length: > 0 } texts ? [.. texts.Select(file => file.FullName)] : throw new InputException("--model needs --text, the files to continue on."),
            HeldOut = [.. arguments.GetValue(heldOut)!.Select(file => file.FullName)],
            Conversion = new()
            {
                SegmentLength = arguments.GetValue(segment) is var tokens && tokens is null or >= 1 ? tokens : throw new InputException("--segment must be at least 1."),
                Update = rule,
                Memory = memory,
                GateInit = arguments.GetValue(gate),
            },
            Steps = steps,
            Rate = arguments.GetValue(rate) is > 0 and < 1 and var given ? given : throw new InputException("--rate must be greater than 0 and less than 1."),
            Seed = seed,
            Length = arguments.GetValue(length) is { } sequence ? TokenCount.Parse(sequence) : null,
            Batch = arguments.AtLeast(1, batch),
            HeldOutSequences = arguments.AtLeast(1, heldOutSequences),
            Adapters = Adapters(),
            IsNew = arguments.GetValue(fromScratch),
            Log = arguments.GetValue(log)?.FullName,
        };

        LoraSettings? Adapters() => (arguments.GetValue(lora), arguments.GetValue(alpha)) switch
        {
            (null, null) => null,
            (null, _) => throw new InputException("--alpha needs --lora, the rank of the adapters."),
            _ when arguments.GetValue(fromScratch) => throw new InputException("--lora keeps the weights of the folder as they are: leave --from-scratch out."),
            ({ } rank, var factor) => new(rank, factor ?? rank),
        };
    }
}
