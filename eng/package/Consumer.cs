// A first program of a package user: a layer, and a stream through it in pieces.
using InfiniAttention;
using static TorchSharp.torch;

using var noGradient = no_grad();
using var layer = new InfiniAttentionModule(new InfiniAttentionOptions { EmbedDim = 32, NumHeads = 4, SegmentLength = 8 });
layer.eval();

using var tokens = randn(2, 50, 32);
using var atOnce = layer.call(tokens);

using var streamer = new SegmentStreamer(layer);
using var first = streamer.Forward(tokens.narrow(1, 0, 13));
using var second = streamer.Forward(tokens.narrow(1, 13, 37));
using var inPieces = cat([first, second], 1);

var difference = (atOnce - inPieces).abs().max().item<float>();
Console.WriteLine($"{typeof(InfiniAttentionModule).Assembly.GetName()} on {typeof(Tensor).Assembly.GetName()}");
Console.WriteLine($"{streamer.Position} tokens streamed in two pieces, the state takes {streamer.StateBytes} bytes, the outputs differ by {difference:g2}");
return difference < 1e-5f ? 0 : 1;
