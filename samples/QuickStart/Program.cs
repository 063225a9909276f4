using System.Text;
using InfiniAttention;
using TorchSharp.Modules;
using static TorchSharp.torch;

// 1. A text as bytes, and a model that says after each byte what the next will be: (B, T) to (B, T, 256).
var text = File.ReadAllBytes(args.Length > 0 ? args[0] : Path.Combine(AppContext.BaseDirectory, "training.md"));
var steps = args.Length > 1 ? int.Parse(args[1]) : 500;
random.manual_seed(1);
var model = nn.Sequential(nn.Embedding(256, 96), new Block(96), new Block(96), nn.LayerNorm(96), nn.Linear(96, 256));

// 2. Train it on pieces of 1024 bytes, 16 segments each. The gates have a learning rate of their own.
var optimizer = optim.AdamW(
[
    new AdamW.ParamGroup(InfiniAttentionModule.GateParameters(model), lr: 1e-2, weight_decay: 0),
    new AdamW.ParamGroup(InfiniAttentionModule.OtherParameters(model), lr: 3e-3),
]);
var pieces = Tokens(text)[0].unfold(0, 1025, 1);                        // (P, 1025): one begins at each byte
for (var step = 0; step <= steps; step++)
{
    using var scope = NewDisposeScope();                                // frees the tensors of this step
    var batch = pieces.index_select(0, randint(pieces.size(0), [2]));   // (2, 1025)
    var logits = model.call(batch.narrow(1, 0, 1024));                  // (2, 1024, 256)
    var loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch.narrow(1, 1, 1024).flatten());
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    if (step % (steps / 10) == 0)
    {
        Console.WriteLine($"step {step,3}, loss {loss.item<float>():F2}");
    }
}

// 3. Generate: a stream reads a prompt of any length, then its own bytes one at a time.
model.eval();
using var reading = no_grad();
using var stream = new SegmentStreamer(model);
var story = Generate(stream, text[..1000], 400);
Console.WriteLine($"\n{Encoding.UTF8.GetString(text[800..1000])}|{Encoding.UTF8.GetString(story)}|");

// 4. Save the stream and load it into a new one: both go on alike.
stream.Save("stream.safetensors");
using var loaded = new SegmentStreamer(model);
loaded.Load("stream.safetensors");
var (next, nextLoaded) = (Generate(stream, story[^1..], 200), Generate(loaded, story[^1..], 200));
Console.WriteLine($"{Encoding.UTF8.GetString(nextLoaded)}\n\nBoth streams go on alike: {next.SequenceEqual(nextLoaded)}");

static Tensor Tokens(byte[] bytes) => tensor(bytes).to(int64).unsqueeze(0);   // (1, T)

static byte[] Generate(SegmentStreamer stream, byte[] prompt, int count)
{
    random.manual_seed(2);
    var bytes = new byte[count];
    for (var i = 0; i < count; i++)
    {
        using var scope = NewDisposeScope();
        var logits = stream.Prefill(Tokens(i == 0 ? prompt : bytes[(i - 1)..i]));   // (1, 1, 256): after the last byte given
        bytes[i] = (byte)multinomial((logits.flatten() / 0.5).softmax(0), 1).item<long>();
    }

    return bytes;
}

internal sealed class Block : nn.Module<Tensor, Tensor>
{
    private readonly LayerNorm attention_norm, mlp_norm;
    private readonly InfiniAttentionModule attention;
    private readonly Sequential mlp;

    public Block(long width) : base(nameof(Block))
    {
        (attention_norm, mlp_norm) = (nn.LayerNorm(width), nn.LayerNorm(width));
        attention = new(new() { EmbedDim = width, NumHeads = 4, SegmentLength = 64, Rotary = new RotaryOptions() });
        mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width));
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        x = x + attention.call(attention_norm.call(x));
        return x + mlp.call(mlp_norm.call(x));
    }
}
