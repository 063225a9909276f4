using System.Buffers.Binary;
using System.Text;
using System.Xml.Linq;
using InfiniAttention.Build;
using InfiniAttention.Tests.Documentation;

namespace InfiniAttention.Tests.Packaging;

/// <summary>The build step that lets TorchSharp's native library load on a Linux with an older libstdc++.</summary>
public sealed class OlderLinuxTests : IDisposable
{
    private const string Wanted = "GLIBCXX_3.4.32";

    private readonly string folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(folder, recursive: true);

    [Fact]
    public void The_requirement_is_marked_weak_and_nothing_else_changes()
    {
        byte[] before = Elf(["GLIBCXX_3.4", Wanted], ["GLIBC_2.34"]), after = [.. before];
        Assert.True(WeakenGlibcxxRequirement.Weaken(after));
        int changed = Assert.Single(Enumerable.Range(0, before.Length), i => before[i] != after[i]);
        Assert.Equal((0, 2), (before[changed], after[changed]));
        Assert.False(WeakenGlibcxxRequirement.Weaken(after), "the second call must find nothing to do");
    }

    [Fact]
    public void A_library_without_the_requirement_stays_as_it_is()
    {
        byte[] before = Elf(["GLIBCXX_3.4", "GLIBCXX_3.4.3", "GLIBCXX_3.4.320"], ["GLIBC_2.34"]), after = [.. before];
        Assert.False(WeakenGlibcxxRequirement.Weaken(after));
        Assert.Equal(before, after);
    }

    [Theory]
    [InlineData("")]
    [InlineData("MZ and so on: a Windows library")]
    [InlineData("\x7f" + "EL")]
    public void A_file_that_is_not_ELF_stays_as_it_is(string text) => Assert.False(WeakenGlibcxxRequirement.Weaken(Encoding.Latin1.GetBytes(text)));

    [Fact]
    public void A_library_of_32_bits_or_of_the_other_byte_order_stays_as_it_is()
    {
        foreach (var (place, value) in new[] { (4, (byte)1), (5, (byte)2) })
        {
            byte[] elf = Elf([Wanted]);
            elf[place] = value;
            Assert.False(WeakenGlibcxxRequirement.Weaken(elf));
        }
    }

    [Fact]
    public void A_truncated_library_is_an_error_whatever_is_missing()
    {
        byte[] whole = Elf([Wanted]);
        int refused = 0;
        for (int length = 6; length < whole.Length; length++)
        {
            refused += Record.Exception(() => WeakenGlibcxxRequirement.Weaken(whole[..length])) is InvalidDataException ? 1 : 0;
        }

        Assert.Equal(whole.Length - 6, refused);
    }

    [Fact]
    public void A_damaged_library_is_read_or_refused_and_never_loops()
    {
        byte[] whole = Elf([Wanted, "GLIBCXX_3.4"], ["GLIBC_2.34"]);
        var random = new Random(1);
        for (int i = 0; i < 20_000; i++)
        {
            byte[] damaged = [.. whole];
            damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            Assert.True(Record.Exception(() => WeakenGlibcxxRequirement.Weaken(damaged)) is null or InvalidDataException);
        }
    }

    [Fact]
    public void The_file_is_replaced_by_a_new_one_so_that_a_hard_link_into_the_package_cache_keeps_its_bytes()
    {
        string cached = Path.Combine(folder, "cached.so"), output = Path.Combine(folder, "output.so");
        byte[] before = Elf([Wanted]);
        File.WriteAllBytes(cached, before);
        File.SetLastWriteTimeUtc(cached, new(2026, 1, 2, 3, 4, 5, DateTimeKind.Utc));
        if (OperatingSystem.IsWindows())
        {
            File.Copy(cached, output);
        }
        else
        {
            using var link = System.Diagnostics.Process.Start("ln", [cached, output])!;
            link.WaitForExit();
        }

        Assert.True(WeakenGlibcxxRequirement.Weaken(output));
        Assert.Equal(before, File.ReadAllBytes(cached));
        Assert.NotEqual(before, File.ReadAllBytes(output));
        Assert.Equal(File.GetLastWriteTimeUtc(cached), File.GetLastWriteTimeUtc(output));
        Assert.Equal(2, Directory.GetFiles(folder).Length);
    }

    [Fact]
    public void The_library_that_this_test_runs_on_has_the_mark()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        string loaded = Directory.GetFiles(AppContext.BaseDirectory, "libLibTorchSharp.so", SearchOption.AllDirectories).Single(file => file.Contains("linux-x64", StringComparison.Ordinal));
        Assert.False(WeakenGlibcxxRequirement.Weaken(File.ReadAllBytes(loaded)), "the build step must have patched the output");
    }

    [Fact]
    public void On_other_systems_nothing_is_done()
    {
        var targets = XDocument.Load(Path.Combine(Repository.Root, "eng/torchsharp-on-older-linux/TorchSharpOnOlderLinux.targets"));
        XElement[] all = [.. targets.Root!.Elements("Target")];
        Assert.Equal(2, all.Length);
        Assert.All(all, target => Assert.Equal("$([MSBuild]::IsOSPlatform('Linux'))", (string?)target.Attribute("Condition")));
    }

    /// <summary>A 64-bit little-endian ELF file with only a section of version requirements, with the given versions for each file, and its names.</summary>
    private static byte[] Elf(params string[][] versionsByFile)
    {
        var names = new List<byte> { 0 };
        var needed = new List<byte>();
        for (int file = 0; file < versionsByFile.Length; file++)
        {
            string[] versions = versionsByFile[file];
            Add16(needed, 1, (ushort)versions.Length);
            Add32(needed, Name($"lib{file}.so"), 16, file + 1 < versionsByFile.Length ? 16 + (16 * versions.Length) : 0);
            for (int version = 0; version < versions.Length; version++)
            {
                Add32(needed, 0);
                Add16(needed, 0, (ushort)(version + 2));
                Add32(needed, Name(versions[version]), version + 1 < versions.Length ? 16 : 0);
            }
        }

        const int Header = 64, Section = 64;
        byte[] elf = new byte[Header + names.Count + needed.Count + (3 * Section)];
        new byte[] { 0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1 }.CopyTo(elf, 0);
        names.CopyTo(elf, Header);
        needed.CopyTo(elf, Header + names.Count);
        int sections = Header + names.Count + needed.Count;
        BinaryPrimitives.WriteInt64LittleEndian(elf.AsSpan(0x28), sections);
        BinaryPrimitives.WriteUInt16LittleEndian(elf.AsSpan(0x3a), Section);
        BinaryPrimitives.WriteUInt16LittleEndian(elf.AsSpan(0x3c), 3);
        SectionAt(1, 3, Header, 0);
        SectionAt(2, 0x6ffffffe, Header + names.Count, 1);
        return elf;

        void SectionAt(int index, int type, long offset, int link)
        {
            Span<byte> section = elf.AsSpan(sections + (index * Section));
            BinaryPrimitives.WriteInt32LittleEndian(section[4..], type);
            BinaryPrimitives.WriteInt64LittleEndian(section[24..], offset);
            BinaryPrimitives.WriteInt32LittleEndian(section[40..], link);
        }

        int Name(string text)
        {
            int start = names.Count;
            names.AddRange(Encoding.ASCII.GetBytes(text + "\0"));
            return start;
        }

        static void Add16(List<byte> bytes, params ushort[] numbers)
        {
            foreach (ushort number in numbers)
            {
                bytes.AddRange(BitConverter.GetBytes(number));
            }
        }

        static void Add32(List<byte> bytes, params int[] numbers)
        {
            foreach (int number in numbers)
            {
                bytes.AddRange(BitConverter.GetBytes(number));
            }
        }
    }
}
