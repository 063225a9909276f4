using System.CommandLine;
using LongContext.Models;
using LongContext.Passkey;
using static TorchSharp.torch;

namespace LongContext.Generate;

/// <summary>The options of commands that read a model.</summary>
internal sealed class ModelOptions
{
    private readonly Option<int?> segment = new("--segment") { Description = "Tokens of a segment; default: what the model sees, at most 2048." };
    private readonly Option<string> rule = new("--rule") { Description = "The update rule: linear or delta.", DefaultValueFactory = _ => "linear" };
    private readonly Option<double> gate = new("--gate") { Description = "The initial gates, beta.", DefaultValueFactory = _ => new ConversionOptions().GateInit };
    private readonly Option<string> memory = MemoryVariant.Option();
    private readonly Option<int> localSegments = MemoryVariant.LocalSegmentsOption();
    private readonly Option<string> device = PasskeyCommand.DeviceOption();

    public static Option<DirectoryInfo> Folder() =>
        new("--model") { Description = "A Hugging Face folder (config.json, safetensors, tokenizer.json), or one with model.bin and tokenizer.bin of llama2.c.", Required = true };

    public void AddTo(Command command)
    {
        foreach (var option in new Option[] { segment, rule, gate, memory, localSegments, device })
        {
            command.Options.Add(option);
        }
    }

    public PretrainedModel Load(ParseResult arguments, DirectoryInfo folder)
    {
        var options = new ConversionOptions
        {
            SegmentLength = arguments.GetValue(segment) is var length && length is null or >= 1 ? length : throw new InputException("--segment must be at least 1."),
            Update = PasskeyCommand.Rules(arguments.GetValue(rule)!) is [var only] ? only : throw new InputException("--rule is both; it must be linear or delta."),
            GateInit = arguments.GetValue(gate),
            Memory = MemoryVariant.Parse(arguments.GetValue(memory)!, arguments.GetValue(localSegments)),
        };
        if (PretrainedModel.SavedOptions(folder.FullName) is { } saved)
        {
            arguments.Refuse([segment, rule, gate, memory, localSegments], $"'{folder}' says how its attention was converted");
            options = saved;
        }

        var model = PretrainedModel.Load(folder.FullName, options, float32, PasskeyCommand.Device(arguments.GetValue(device)!));
        model.Decoder.eval();
        return model;
    }
}
