using System.CommandLine;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;
using InfiniAttention;
using InfiniAttention.Benchmarks;
using Spectre.Console;
using TorchSharp;

var device = new Option<string>("--device") { Description = "Where to measure: cpu, cuda or cuda:INDEX.", DefaultValueFactory = _ => "cpu", Recursive = true };
var root = new RootCommand("Measures InfiniAttention: its targets, how it scales, and suites of benchmarks.")
{
    Targets(), Memory(), Scaling(), Costs(), Group(), Suites(), JobOfItsOwn(), MemoryJobOfItsOwn(), GroupJobOfItsOwn(), GraphJobOfItsOwn(),
};
root.Add(device);
if (Console.IsOutputRedirected)
{
    // Output to a file or a pipe: wide tables, no colours.
    AnsiConsole.Profile.Width = 220;
    AnsiConsole.Profile.Capabilities.Ansi = false;
}

try
{
    return root.Parse(args).Invoke(new() { EnableDefaultExceptionHandler = false });
}
catch (Exception error) when (error is ArgumentException or MeasurementException or IOException or UnauthorizedAccessException)
{
    Console.Error.WriteLine(error.Message);
    return 2;
}

Command Targets()
{
    var only = new Option<string?>("--only") { Description = "Measure only the targets whose name contains this." };
    var quick = new Option<bool>("--quick") { Description = "Shorter lengths and fewer rounds: an impression in a few minutes." };
    var output = new Option<string?>("--output") { Description = "The results file; if not given, bench/results/targets-DEVICE.csv, or none with --only or --quick." };
    var command = new Command("targets", "Measures what the library promises, each as a ratio within one run, and says pass or fail.") { only, quick, output };
    command.SetAction(parsed =>
    {
        var (name, isQuick, chosen) = (parsed.GetValue(device)!, parsed.GetValue(quick), parsed.GetValue(only));
        var place = DeviceOf(name);
        var clock = isQuick ? new Stopclock(place, TimeSpan.FromSeconds(4), 3) : new Stopclock(place, TimeSpan.FromSeconds(12), 5);
        var isWhole = chosen is null && !isQuick; // partial results must not replace the full ones
        return TargetsCommand.Run(new(place, name, clock, isQuick), chosen, parsed.GetValue(output) ?? (isWhole ? ResultsOf("targets", place) : null));
    });
    return command;
}

Command Scaling()
{
    var longest = new Option<long>("--longest") { Description = "The longest stream, in tokens; 10485760 for 10M.", DefaultValueFactory = _ => 1024 * Setting.Kilo };
    var training = new Option<long>("--longest-training") { Description = "The longest sequence to train on, in tokens.", DefaultValueFactory = _ => 256 * Setting.Kilo };
    var patience = new Option<double>("--patience") { Description = "Seconds a length may take before a series ends.", DefaultValueFactory = _ => 60 };
    var output = new Option<string?>("--output") { Description = "The folder of the table and the charts; bench/results if not given." };
    var draw = new Option<bool>("--draw") { Description = "Only draw the charts, from the existing file." };
    var command = new Command("scaling", "Time per token and peak memory by length: "
        + "streams beside full attention, Backpropagate beside ordinary training.") { longest, training, patience, output, draw };
    command.SetAction(parsed =>
    {
        var name = parsed.GetValue(device)!;
        if (parsed.GetValue(draw))
        {
            ScalingChart.Draw(parsed.GetValue(output) ?? Machine.ResultsFolder, DeviceOf(name).type.ToString().ToLowerInvariant());
            return;
        }

        ScalingCommand.Run(DeviceOf(name), name, parsed.GetValue(longest), parsed.GetValue(training), parsed.GetValue(patience), parsed.GetValue(output) ?? Machine.ResultsFolder);
    });
    return command;
}

Command Costs()
{
    var output = new Option<string?>("--output") { Description = "The results file; bench/results/costs-DEVICE.csv if not given." };
    var command = new Command("costs", "What each kernel of the layer costs: operations and bytes per token, time, and its share of the machine's peak.") { output };
    command.SetAction(parsed =>
    {
        var place = DeviceOf(parsed.GetValue(device)!);
        CostsCommand.Run(place, parsed.GetValue(output) ?? ResultsOf("costs", place));
    });
    return command;
}

Command JobOfItsOwn()
{
    var workload = new Argument<Workload>("workload") { Description = "The workload." };
    var tokens = new Argument<long>("tokens") { Description = "The number of tokens." };
    var command = new Command(JobProcess.Command, "Runs one workload and prints the seconds it took and the peak of this process's resident memory, in bytes.") { workload, tokens };
    command.SetAction(parsed => JobProcess.Run(parsed.GetValue(workload), parsed.GetValue(tokens), DeviceOf(parsed.GetValue(device)!)));
    return command;
}

Command Memory()
{
    var calls = new Option<MemoryCall[]>("--calls") { Description = "The calls to measure.", DefaultValueFactory = _ => Enum.GetValues<MemoryCall>(), AllowMultipleArgumentsPerToken = true };
    var widths = new Option<long[]>("--widths") { Description = "D of the models.", DefaultValueFactory = _ => [256, 64], AllowMultipleArgumentsPerToken = true };
    var tokens = new Option<long>("--tokens") { Description = "Tokens that each call reads.", DefaultValueFactory = _ => 4096 * Setting.Kilo };
    var threads = new Option<int[]>("--threads") { Description = "Threads of libtorch.", DefaultValueFactory = _ => [1, 2], AllowMultipleArgumentsPerToken = true };
    var models = new Option<MemoryModel[]>("--models")
    {
        Description = "What the user's own model leaves behind: nothing, or native memory in every call.",
        DefaultValueFactory = _ => [MemoryModel.Crumbs],
        AllowMultipleArgumentsPerToken = true,
    };
    var output = new Option<string?>("--output") { Description = "The folder of the file and the chart; bench/results if not given." };
    var draw = new Option<bool>("--draw") { Description = "Only draw the chart, from the existing file." };
    var command = new Command("memory", "Resident memory by tokens read, each call in a fresh process, "
        + "for a model that leaves native memory behind in every call, or none.") { calls, widths, tokens, threads, models, output, draw };
    command.SetAction(parsed =>
    {
        if (parsed.GetValue(draw))
        {
            MemoryChart.Draw(parsed.GetValue(output) ?? Machine.ResultsFolder);
            return;
        }

        MemoryJob[] jobs =
        [
            .. from threadCount in parsed.GetValue(threads)!
               from width in parsed.GetValue(widths)!
               from call in parsed.GetValue(calls)!
               from model in parsed.GetValue(models)!
               select new MemoryJob(call, width, model == MemoryModel.Crumbs, parsed.GetValue(tokens), threadCount),
        ];
        MemoryCommand.Run(jobs, parsed.GetValue(output) ?? Machine.ResultsFolder);
    });
    return command;
}

Command MemoryJobOfItsOwn()
{
    var call = new Argument<MemoryCall>("call") { Description = "The call." };
    var width = new Argument<long>("width") { Description = "D." };
    var makesCrumbs = new Argument<bool>("crumbs") { Description = "Whether the model leaves native memory behind." };
    var tokens = new Argument<long>("tokens") { Description = "The number of tokens." };
    var threads = new Argument<int>("threads") { Description = "Threads of libtorch." };
    var command = new Command(MemoryJob.Command, "Runs one call and prints this process's resident memory as it goes.") { call, width, makesCrumbs, tokens, threads };
    command.SetAction(parsed => new MemoryJob(parsed.GetValue(call), parsed.GetValue(width), parsed.GetValue(makesCrumbs), parsed.GetValue(tokens), parsed.GetValue(threads)).Run());
    return command;
}

Command Group()
{
    var output = new Option<string?>("--output") { Description = "The results file; bench/results/group-cpu.csv if not given." };
    var command = new Command("group", "A layer whose sequence the processes of an MPI job share: time beside the same without sharing, and bytes sent. Needs MPICH.") { output };
    command.SetAction(parsed => GroupCommand.Run(parsed.GetValue(output) ?? ResultsOf("group", torch.CPU)));
    return command;
}

Command GroupJobOfItsOwn()
{
    var update = new Argument<MemoryUpdate>("update") { Description = "The update rule." };
    var tokens = new Argument<long>("tokens") { Description = "Tokens of each process." };
    var command = new Command(GroupJob.Command, "What one process of the job measures.") { update, tokens };
    command.SetAction(parsed => new GroupJob(parsed.GetValue(update), parsed.GetValue(tokens)).Run());
    return command;
}

Command GraphJobOfItsOwn()
{
    var tokens = new Argument<long>("tokens") { Description = "Tokens of the sequence." };
    var window = new Argument<long>("window") { Description = "Tokens whose graph a process holds." };
    var command = new Command(GraphJob.Command, "What one process of the training does.") { tokens, window };
    command.SetAction(parsed => GraphJob.Run(parsed.GetValue(tokens), parsed.GetValue(window)));
    return command;
}

Command Suites()
{
    // In this process: a project that BenchmarkDotNet generates would lack the step that lets TorchSharp load on an older Linux.
    var configuration = ManualConfig.Create(DefaultConfig.Instance)
        .AddJob(Job.ShortRun.WithToolchain(InProcessEmitToolchain.Instance))
        .AddDiagnoser(MemoryDiagnoser.Default);
    var arguments = new Argument<string[]>("arguments") { Description = "Arguments of BenchmarkDotNet, such as --filter '*Forward*'.", Arity = ArgumentArity.ZeroOrMore };
    var command = new Command("suites", "Runs the suites of benchmarks with BenchmarkDotNet.") { arguments };
    command.SetAction(parsed => { BenchmarkSwitcher.FromAssembly(typeof(Program).Assembly).Run(parsed.GetValue(arguments), configuration); });
    return command;
}

static string ResultsOf(string command, torch.Device device) => Path.Combine(Machine.ResultsFolder, $"{command}-{device.type.ToString().ToLowerInvariant()}.csv");

static torch.Device DeviceOf(string name)
{
    var kind = name.Split(':')[0].ToLowerInvariant();
    if (kind is not ("cpu" or "cuda"))
    {
        throw new ArgumentException($"--device is '{name}'; it must be cpu, cuda or cuda:INDEX.");
    }

    if (kind == "cuda" && !torch.cuda.is_available())
    {
        throw new ArgumentException($"--device is '{name}', but this machine, or the libtorch in use, has no CUDA: choose --device cpu, or build with -p:TorchBackend=cuda on a machine with a GPU.");
    }

    return torch.device(name);
}
