using System.CommandLine;
using System.Globalization;
using LongContext.Models;
using LongContext.Passkey;
using Spectre.Console;

namespace LongContext.Generate;

/// <summary><c>generate</c>: a model that people have reads a prompt of any length as a stream, and goes on with it.</summary>
public static class GenerateCommand
{
    /// <summary>Tokens of the prompt that are decoded together with the first token of the answer.</summary>
    private const int Context = 8;

    public static Command Create()
    {
        var model = ModelOptions.Folder();
        var shape = new ModelOptions();
        var prompt = new Option<FileInfo?>("--prompt") { Description = "A text file that is read first." };
        var tokens = new Option<string>("--tokens") { Description = "The most tokens that are generated.", DefaultValueFactory = _ => "256" };
        var temperature = new Option<double>("--temperature") { Description = "What logits are divided by; 0 for always the most probable token.", DefaultValueFactory = _ => 0.8 };
        var topP = new Option<double>("--top-p") { Description = "Draws from the most probable tokens that have this probability together.", DefaultValueFactory = _ => 0.95 };
        var seed = PasskeyCommand.SeedOption();
        var save = new Option<FileInfo?>("--save") { Description = "Saves the stream here at the end." };
        var from = new Option<FileInfo?>("--continue") { Description = "Goes on from a stream that was saved." };
        var command = new Command("generate", "Reads a prompt of any length with a Hugging Face or llama2.c model, and goes on with it.")
        {
            model, prompt, tokens, temperature, topP, seed, save, from,
        };
        shape.AddTo(command);
        command.SetAction((arguments, cancellation) => Task.Run(() => // Ctrl-C has no effect before the action returns its task
        {
            var sampler = new Sampler(
                arguments.GetValue(temperature) is >= 0 and < double.PositiveInfinity and var given ? given : throw new InputException("--temperature must be a number of at least 0."),
                arguments.GetValue(topP) is > 0 and <= 1 and var share ? share : throw new InputException("--top-p must be greater than 0 and at most 1."),
                arguments.GetValue(seed));
            var (promptFile, continued, saved) = (arguments.GetValue(prompt), arguments.GetValue(from), arguments.GetValue(save));
            if (promptFile is null && continued is null)
            {
                throw new InputException("There is nothing to go on from: give --prompt, --continue or both.");
            }

            if (saved is not null)
            {
                AtomicFile.Check(saved.FullName);
            }

            var text = promptFile is null ? "" : File.ReadAllText(promptFile.FullName);
            var most = TokenCount.Parse(arguments.GetValue(tokens)!);
            using var pretrained = shape.Load(arguments, arguments.GetValue(model)!);
            using var generation = new Generation(pretrained);
            if (continued is not null)
            {
                generation.Load(continued.FullName);
            }

            try
            {
                Run(generation, pretrained, text, most, sampler, cancellation);
            }
            catch (OperationCanceledException)
            {
                Console.WriteLine("Interrupted: the prompt was not read.");
                return Cli.Interrupted;
            }

            if (saved is not null)
            {
                generation.Save(saved.FullName);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"Saved: {saved}, a stream of {generation.Position} tokens in {generation.StateBytes / 1024.0:0.#} KB"));
            }

            return cancellation.IsCancellationRequested ? Cli.Interrupted : Cli.Success;
        }));
        return command;
    }

    private static void Run(Generation generation, PretrainedModel model, string prompt, long most, Sampler sampler, CancellationToken cancellation)
    {
        var tokens = generation.Tokens(prompt);
        Read(generation, tokens, cancellation);
        var text = new TextOfTokens(model.Tokenizer, tokens.TakeLast(Context));
        for (var i = 0L; i < most && !cancellation.IsCancellationRequested; i++)
        {
            var token = generation.Next(sampler);
            if (generation.Ends(token))
            {
                break;
            }

            Console.Write(text.Add(token));
        }

        Console.WriteLine();
    }

    private static void Read(Generation generation, long[] tokens, CancellationToken cancellation) => AnsiConsole.Progress()
        .AutoClear(true)
        .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
        .Start(display =>
        {
            var task = display.AddTask($"{tokens.Length:N0} tokens", maxValue: Math.Max(1, tokens.Length));
            generation.Read(tokens, new Progress(read => task.Value = read), cancellation);
        });

    /// <summary>Reports on the thread that reads, unlike <see cref="Progress{T}"/>.</summary>
    private sealed class Progress(Action<long> report) : IProgress<long>
    {
        public void Report(long value) => report(value);
    }
}
