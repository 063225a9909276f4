using System.CommandLine;
using BenchmarkDotNet.Running;
using InfiniAttention.Benchmarks;
using Spectre.Console;
using TorchSharp;

var device = new Option<string>("--device") { Description = "Where to measure: cpu, cuda or cuda:INDEX.", DefaultValueFactory = _ => "cpu", Recursive = true };
var root = new RootCommand("Measures InfiniAttention: its targets, how it scales, and suites of benchmarks.") { Targets(), PeakMemory(), Suites() };
root.Add(device);
if (Console.IsOutputRedirected)
{
    // Into a file or a pipe: tables as wide as they are, without colours.
    AnsiConsole.Profile.Width = 220;
    AnsiConsole.Profile.Capabilities.Ansi = false;
}

try
{
    return root.Parse(args).Invoke(new() { EnableDefaultExceptionHandler = false });
}
catch (ArgumentException error)
{
    Console.Error.WriteLine(error.Message);
    return 2;
}

Command Targets()
{
    var only = new Option<string?>("--only") { Description = "Measure only the targets whose name contains this." };
    var quick = new Option<bool>("--quick") { Description = "Shorter lengths and fewer rounds: an impression in a few minutes." };
    var output = new Option<string?>("--output") { Description = "The file of results; bench/results/targets-DEVICE.csv if not given." };
    var command = new Command("targets", "Measures what the library promises, each as a ratio within one run, and says pass or fail.") { only, quick, output };
    command.SetAction(parsed =>
    {
        var (name, isQuick) = (parsed.GetValue(device)!, parsed.GetValue(quick));
        var place = DeviceOf(name);
        var clock = isQuick ? new Stopclock(place, TimeSpan.FromSeconds(4), 3) : new Stopclock(place, TimeSpan.FromSeconds(20), 7);
        return TargetsCommand.Run(
            new(place, name, clock, isQuick), parsed.GetValue(only),
            parsed.GetValue(output) ?? Path.Combine(Machine.ResultsFolder, $"targets-{place.type.ToString().ToLowerInvariant()}.csv"));
    });
    return command;
}

Command PeakMemory()
{
    var job = new Argument<MemoryJob>("job");
    var tokens = new Argument<long>("tokens");
    var command = new Command(MemoryProbe.Command, "Runs one job and prints the peak of this process's resident memory, in bytes.") { job, tokens };
    command.SetAction(parsed => MemoryProbe.Run(parsed.GetValue(job), parsed.GetValue(tokens), DeviceOf(parsed.GetValue(device)!)));
    return command;
}

Command Suites()
{
    var arguments = new Argument<string[]>("arguments") { Description = "Arguments of BenchmarkDotNet, such as --filter '*Forward*'.", Arity = ArgumentArity.ZeroOrMore };
    var command = new Command("suites", "Runs the suites of benchmarks with BenchmarkDotNet.") { arguments };
    command.SetAction(parsed => { BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(parsed.GetValue(arguments)); });
    return command;
}

static torch.Device DeviceOf(string name)
{
    var place = torch.device(name);
    return place.type != DeviceType.CUDA || torch.cuda.is_available()
        ? place
        : throw new ArgumentException($"--device {name}: this machine, or the libtorch in use, has no CUDA. Choose --device cpu, or build with -p:TorchBackend=cuda on a machine with a GPU.");
}
