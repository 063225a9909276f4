using System.Text;
using InfiniAttention;
using LongContext.Passkey;

namespace LongContext.Tests;

public sealed class WeightsFileTests : IDisposable
{
    private readonly TemporaryFolder folder = new();

    private string Path => folder.File("model.safetensors");

    public void Dispose() => folder.Dispose();

    [Fact]
    public void A_model_comes_back_as_it_was_saved()
    {
        using var saved = PasskeyModelTests.Small(MemoryUpdate.Delta);
        WeightsFile.Save(Path, saved, new Dictionary<string, string> { ["seed"] = "7" });

        var (loaded, notes) = WeightsFile.Load(Path);

        using (loaded)
        {
            Assert.Equal("7", notes["seed"]);
            Assert.Equal((saved.Attention.Update, saved.Config.Width, saved.Attention.SegmentLength), (loaded.Attention.Update, loaded.Config.Width, loaded.Attention.SegmentLength));
            var weights = loaded.state_dict();
            foreach (var (name, weight) in saved.state_dict())
            {
                Assert.Equal(weight.detach().data<float>().ToArray(), weights[name].detach().data<float>().ToArray());
            }
        }
    }

    [Fact]
    public void A_missing_file_is_refused() =>
        Assert.Contains("There is no weights file", Assert.Throws<InputException>(() => WeightsFile.Load(Path)).Message);

    [Theory]
    [InlineData("")]
    [InlineData("hello, I am a letter and not a model")]
    [InlineData("\u0002\0\0\0\0\0\0\0{}")]
    [InlineData("\u0004\0\0\0\0\0\0\0nope")]
    [InlineData("\u0019\0\0\0\0\0\0\0{\"__metadata__\":{\"a\":\"b\"}}")]
    public void A_foreign_file_is_refused(string content)
    {
        File.WriteAllBytes(Path, Encoding.Latin1.GetBytes(content));

        Assert.Contains("does not hold weights of this model", Assert.Throws<InputException>(() => WeightsFile.Load(Path)).Message);
    }

    [Fact]
    public void Every_truncation_is_refused()
    {
        using var model = PasskeyModelTests.Small(MemoryUpdate.Linear);
        WeightsFile.Save(Path, model);
        var whole = File.ReadAllBytes(Path);
        var random = new Random(1);

        for (var i = 0; i < 40; i++)
        {
            File.WriteAllBytes(Path, whole[..random.Next(whole.Length)]);
            Assert.Throws<InputException>(() => WeightsFile.Load(Path));
        }
    }

    [Theory]
    [InlineData("\"width\":\"32\"", "\"width\":\"64\"")]
    [InlineData("\"update\":\"Linear\"", "\"update\":\"Cosine\"")]
    [InlineData("\"heads\":\"2\"", "\"heads\":\"x\"")]
    [InlineData("\"heads\":\"2\"", "\"heads\":\"3\"")]
    [InlineData("\"layers\":\"2\"", "\"layers\":\"3\"")]
    [InlineData("\"model.norm.weight\"", "\"model.nurm.weight\"")]
    [InlineData("\"F32\"", "\"I32\"")]
    public void A_file_of_another_model_is_refused(string text, string other)
    {
        using var model = PasskeyModelTests.Small(MemoryUpdate.Linear);
        WeightsFile.Save(Path, model);
        var content = Encoding.Latin1.GetString(File.ReadAllBytes(Path));
        Assert.Contains(text, content);
        File.WriteAllBytes(Path, Encoding.Latin1.GetBytes(content.Replace(text, other, StringComparison.Ordinal)));

        Assert.Contains("does not hold weights of this model", Assert.Throws<InputException>(() => WeightsFile.Load(Path)).Message);
    }
}
