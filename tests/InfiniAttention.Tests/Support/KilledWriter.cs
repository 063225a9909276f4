using static TorchSharp.torch;

namespace InfiniAttention.Tests;

/// <summary>The program that <see cref="SegmentStreamerKillTests"/> starts and kills: it alternately saves two streams to one path, forever.</summary>
internal static class KilledWriter
{
    public const string Command = "save-for-ever";

    /// <summary>A state of about a megabyte, so that some kills leave a half-written file.</summary>
    private static readonly LayerCase Large = new() { Batch = 1, Segment = 8, Length = 24, HeadDim = 256, ValueDim = 256, KeyValueHeads = 1 };

    public static LayerStack Model() => new(Large, depth: 2);

    public static SegmentStreamer Streamer(LayerStack model, int tokens)
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var streamer = new SegmentStreamer(model);
        streamer.Forward(Large.Input().detach().narrow(1, 0, tokens)).Dispose();
        return streamer;
    }

    public static void Run(string path)
    {
        LayerStack model = Model();
        SegmentStreamer[] streamers = [Streamer(model, 13), Streamer(model, 22)];
        for (int turn = 0; ; turn++)
        {
            streamers[turn % 2].Save(path);
            if (turn == 1)
            {
                Console.WriteLine("saved");
            }
        }
    }
}
