using static TorchSharp.torch;

namespace InfiniAttention;

// How the layers of a model find their stream: the streamer that is active on the thread.
public sealed partial class SegmentStreamer
{
    [ThreadStatic]
    private static SegmentStreamer? current;

    private TokenInfo? activeInfo;
    private bool mayReuse = true;
    private bool isCalling; // whether this streamer is calling its model

    /// <summary>The streamer active on this thread, for a model that needs its stream's <see cref="Position"/>; null outside any call.</summary>
    public static SegmentStreamer? Current => current;

    /// <summary>
    /// Makes this the stream that the model's Infini-attention layers continue when they are called on this thread, until the
    /// returned object is disposed of: for models whose forward is not <c>Tensor -&gt; Tensor</c>.
    /// </summary>
    /// <param name="info">What is known of each token of the calls inside, (B, T) each.</param>
    /// <exception cref="InvalidOperationException">Another stream is active on this thread.</exception>
    /// <exception cref="ObjectDisposedException">The streamer was disposed of.</exception>
    public IDisposable Activate(TokenInfo? info = null)
    {
        CheckUsable();
        return new Activation(this, info);
    }

    /// <summary>What is known of each token of the call under way.</summary>
    internal TokenInfo? ActiveInfo => activeInfo;

    internal bool Holds(InfiniAttentionModule layer) => states.Holds(layer);

    internal SegmentObserver? Observer => SegmentWritten is null ? null : Tell;

    /// <summary>The time during which a streamer is the active one of its thread.</summary>
    private sealed class Activation : IDisposable
    {
        private readonly SegmentStreamer streamer;
        private readonly SegmentStreamer? outer;
        private readonly (TokenInfo? Info, bool MayReuse, bool IsCalling) before;
        private bool isOver;

        public Activation(SegmentStreamer streamer, TokenInfo? info)
        {
            this.streamer = streamer;
            (outer, before) = (current, (streamer.activeInfo, streamer.mayReuse, streamer.isCalling));
            current = streamer;
            streamer.activeInfo = info;
        }

        public bool Reuse
        {
            init => streamer.mayReuse = value;
        }

        public bool IsCall
        {
            init => streamer.isCalling = value;
        }

        public void Dispose()
        {
            if (isOver)
            {
                return;
            }

            isOver = true;
            current = outer;
            (streamer.activeInfo, streamer.mayReuse, streamer.isCalling) = before;
            if (!ReferenceEquals(outer, streamer))
            {
                streamer.states.DropPending();
            }
        }
    }
}
