using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace InfiniAttention.Tests.Snippets;

public sealed class StreamingSnippets : IDisposable
{
    private readonly DisposeScope scope = NewDisposeScope();
    private readonly IDisposable noGrad = no_grad();
    private readonly LanguageModel model = new();
    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    public StreamingSnippets()
    {
        random.manual_seed(7);
        model.eval();
    }

    public void Dispose()
    {
        model.Dispose();
        noGrad.Dispose();
        scope.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Feed_save_and_fork()
    {
        var prompt = LanguageModel.Tokens(1, 100);
        var path = Path.Combine(folder, "stream.safetensors");

        #region stream
        model.eval();
        using var reading = no_grad();
        using var streamer = new SegmentStreamer(model);

        var logits = streamer.Prefill(prompt);                          // any length, window by window: the last token's output
        for (var i = 0; i < 20; i++)
        {
            using var step = NewDisposeScope();
            var token = logits.argmax(-1);                              // (B, 1)
            logits = streamer.Forward(token).MoveToOuterDisposeScope(); // one token costs the same at any position
        }

        streamer.Save(path);                                            // atomic: the old file or the new one, whole
        using var fork = streamer.Fork();                               // an independent copy of the stream from here

        using var restored = new SegmentStreamer(model);
        restored.Load(path);
        #endregion

        var next = LanguageModel.Tokens(1, 3);
        var expected = streamer.Forward(next);
        Assert.Equal(120, fork.Position);
        Assert.Equal(0, (expected - fork.Forward(next)).abs().max().item<float>());
        Assert.Equal(0, (expected - restored.Forward(next)).abs().max().item<float>());
    }

    [Fact]
    public void The_cut_does_not_matter()
    {
        #region the cut
        var tokens = LanguageModel.Tokens(1, 50);
        using var atOnce = new SegmentStreamer(model);
        using var inPieces = new SegmentStreamer(model);

        var whole = atOnce.Forward(tokens);
        var pieces = cat([.. new[] { (0, 1), (1, 2), (3, 30), (33, 17) }.Select(cut => inPieces.Forward(tokens.narrow(1, cut.Item1, cut.Item2)))], 1);

        Assert.True(whole.allclose(pieces, 1e-4, 1e-5));
        #endregion
    }

    [Fact]
    public void Outputs_window_by_window()
    {
        var book = LanguageModel.Tokens(1, 100);
        var read = 0L;

        #region window by window
        using var streamer = new SegmentStreamer(model) { WindowTokens = 16 };
        foreach (var logits in streamer.Stream(book, progress: new Progress<long>(tokens => Console.WriteLine($"{tokens} read"))))
        {
            using (logits)
            {
                read += logits.shape[1];
                if (read >= 64)
                {
                    break;                                              // the stream stands at token 64, at a whole window
                }
            }
        }
        #endregion

        Assert.Equal(64, streamer.Position);
    }

    [Fact]
    public void Rows_of_a_beam_search()
    {
        #region rows
        using var beams = new SegmentStreamer(model);
        beams.Prefill(LanguageModel.Tokens(1, 40));                     // one row
        beams.SelectRows(zeros(4, int64));                              // the same row four times
        beams.Forward(LanguageModel.Tokens(4, 1));
        beams.SelectRows(tensor(new long[] { 2, 2, 0, 1 }));            // the best ones go on
        beams.ResetRows(tensor(new[] { false, false, false, true }));   // a new document begins in row 3
        #endregion

        Assert.Equal([4, 1, LanguageModel.Vocabulary], beams.Forward(LanguageModel.Tokens(4, 1)).shape);
    }

    [Fact]
    public void A_model_with_another_forward()
    {
        using var classifier = new Classifier();
        var (tokens, lengths) = (LanguageModel.Tokens(2, 30), tensor(new long[] { 30, 12 }));

        #region another forward
        using var streamer = new SegmentStreamer(classifier);
        using (streamer.Activate(new TokenInfo { KeyPaddingMask = arange(30).unsqueeze(0) >= lengths.unsqueeze(1) }))
        {
            var scores = classifier.call(tokens, lengths);              // its Infini-attention layers continue the stream
            Assert.Equal([2, 2], scores.shape);
        }
        #endregion

        Assert.Equal(30, streamer.Position);
    }

    [Fact]
    public void Looking_inside()
    {
        var (book, written) = (LanguageModel.Tokens(1, 40), 0);

        #region report
        using var streamer = new SegmentStreamer(model);
        streamer.SegmentWritten += segment =>                            // as it happens, not in Backpropagate; without listeners it costs nothing
        {
            written++;
            Console.WriteLine($"{segment.Layer}, segment {segment.Segment}: its own keys miss its values by {segment.RetrievalErrors[0]:P0}");
        };
        streamer.Prefill(book).Dispose();

        foreach (var layer in streamer.Report())                        // as it stands
        {
            Console.WriteLine($"{layer.Layer}: share of the memory {layer.MemoryShares[0]:P0}, {layer.StateBytes} bytes against {layer.FullCacheBytes} of a full cache");
        }
        #endregion

        Assert.Equal(40 / 8, written);
    }

    [Fact]
    public void States_by_hand()
    {
        var layer = new InfiniAttentionModule(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        var (first, second) = (randn(1, 6, 8), randn(1, 3, 8));

        #region a state
        var (output, state) = layer.ForwardFrom(null, first);
        using (state)
        {
            var (continued, after) = layer.ForwardFrom(state, second);  // the given state stays valid
            using (after)
            {
                Console.WriteLine($"M {string.Join(" x ", after.Memory.shape)} after {after.Position} tokens, {after.Bytes} bytes");
            }
        }
        #endregion

        Assert.Equal(first.shape, output.shape);
        layer.Dispose();
    }

    [Fact]
    public void Out_of_inference_mode()
    {
        var (book, tokens, targets) = (LanguageModel.Tokens(1, 40), LanguageModel.Tokens(1, 9), LanguageModel.Tokens(1, 9));

        #region inference mode
        using var streamer = new SegmentStreamer(model);
        using (inference_mode())
        {
            streamer.Prefill(book).Dispose();
        }

        using var trainable = streamer.Fork();                          // copies: tensors that a graph may hold
        using var grad = enable_grad();
        nn.functional.cross_entropy(trainable.Forward(tokens).flatten(0, 1), targets.flatten()).backward();
        #endregion

        Assert.All(model.parameters(), parameter => Assert.NotNull(parameter.grad));
    }

    private sealed class Classifier : nn.Module<Tensor, Tensor, Tensor>
    {
        private readonly TorchSharp.Modules.Embedding embedding = nn.Embedding(LanguageModel.Vocabulary, 8);
        private readonly InfiniAttentionModule attention = new(new() { EmbedDim = 8, NumHeads = 2, SegmentLength = 4 });
        private readonly TorchSharp.Modules.Linear head = nn.Linear(8, 2);

        public Classifier()
            : base(nameof(Classifier)) => RegisterComponents();

        public override Tensor forward(Tensor tokens, Tensor lengths)
        {
            var x = attention.call(embedding.call(tokens));
            return head.call(x.gather(1, (lengths - 1).view(-1, 1, 1).expand(-1, 1, x.shape[2])).squeeze(1));
        }
    }

    [Fact]
    public void Learned_positions()
    {
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        var model = new LearnedPositions();
        var tokens = LanguageModel.Tokens(1, 30);
        using var streamer = new SegmentStreamer(model) { WindowTokens = 8 };
        var pieces = cat([streamer.Forward(tokens.narrow(1, 0, 11)), streamer.Forward(tokens.narrow(1, 11, 19))], 1);
        Assert.True(model.call(tokens).allclose(pieces, 1e-4, 1e-5));
    }

    #region learned positions
    private sealed class LearnedPositions : nn.Module<Tensor, Tensor>
    {
        private readonly Embedding words = nn.Embedding(256, 16);
        private readonly Embedding positions = nn.Embedding(1024, 16);
        private readonly InfiniAttentionModule attention = new(new() { EmbedDim = 16, NumHeads = 2, SegmentLength = 8 });

        public LearnedPositions()
            : base(nameof(LearnedPositions)) => RegisterComponents();

        public override Tensor forward(Tensor tokens)
        {
            var first = SegmentStreamer.Current?.Position ?? 0;               // of the call's first token
            var places = arange(first, first + tokens.size(1), int64);
            return attention.call(words.call(tokens) + positions.call(places));
        }
    }
    #endregion
}
