// Compiled by MSBuild for .NET Standard 2.0, without the nullable annotations of the repository.
#nullable disable
using System;
using System.IO;
using System.Text;
using Microsoft.Build.Framework;

namespace InfiniAttention.Build;

/// <summary>
/// Lets TorchSharp's native library load on a Linux whose libstdc++ is older than GCC 13's (Debian 12, Ubuntu 22.04).
/// </summary>
/// <remarks>
/// libLibTorchSharp.so of TorchSharp 0.107.0 requires the version GLIBCXX_3.4.32 for one symbol, _ZSt21ios_base_library_initv,
/// which GCC 13's &lt;iostream&gt; leaves as a marker: no relocation refers to it and nothing calls it. Marked as weak, the
/// requirement is ignored if the system does not fulfil it.
/// </remarks>
public sealed class WeakenGlibcxxRequirement : ITask
{
    private const string Version = "GLIBCXX_3.4.32";

    public IBuildEngine BuildEngine { get; set; }

    public ITaskHost HostObject { get; set; }

    /// <summary>The libraries. Each one with the requirement is replaced by a new file, because an output may be a hard link into the package cache.</summary>
    [Required]
    public ITaskItem[] Files { get; set; }

    public bool Execute()
    {
        foreach (var item in Files)
        {
            try
            {
                Weaken(item.GetMetadata("FullPath"));
            }
            catch (InvalidDataException e)
            {
                BuildEngine.LogErrorEvent(new BuildErrorEventArgs("", "TORCH001", item.ItemSpec, 0, 0, 0, 0, e.Message, "", nameof(WeakenGlibcxxRequirement)));
                return false;
            }
        }

        return true;
    }

    /// <summary>Replaces the file by one with the requirement marked as weak. Returns whether it had the requirement.</summary>
    /// <exception cref="InvalidDataException">The file is a truncated or damaged ELF file.</exception>
    public static bool Weaken(string path)
    {
        var bytes = File.ReadAllBytes(path);
        if (!Weaken(bytes))
        {
            return false;
        }

        var replacement = path + ".new";
        File.WriteAllBytes(replacement, bytes);
        File.SetLastWriteTimeUtc(replacement, File.GetLastWriteTimeUtc(path)); // so that the next build has nothing to copy
        File.Delete(path);
        File.Move(replacement, path);
        return true;
    }

    /// <summary>Marks the requirement as weak in the bytes of a 64-bit little-endian ELF file. Returns whether it had the requirement.</summary>
    /// <exception cref="InvalidDataException">The file is a truncated or damaged ELF file.</exception>
    public static bool Weaken(byte[] elf)
    {
        const int VersionRequirements = 0x6ffffffe; // SHT_GNU_verneed
        const ushort Weak = 2;                      // VER_FLG_WEAK
        if (elf.Length < 6 || elf[0] != 0x7f || elf[1] != 'E' || elf[2] != 'L' || elf[3] != 'F' || elf[4] != 2 || elf[5] != 1)
        {
            return false;
        }

        var isChanged = false;
        try
        {
            var (sections, sectionSize, sectionCount) = (checked((int)BitConverter.ToInt64(elf, 0x28)), BitConverter.ToUInt16(elf, 0x3a), BitConverter.ToUInt16(elf, 0x3c));
            if (sections < 0 || sections + (sectionCount * sectionSize) > elf.Length)
            {
                throw new ArgumentException("The table of sections is cut off.");
            }

            for (var i = 0; i < sectionCount; i++)
            {
                var section = sections + (i * sectionSize);
                if (BitConverter.ToInt32(elf, section + 4) != VersionRequirements)
                {
                    continue;
                }

                var names = Offset(sections + (BitConverter.ToInt32(elf, section + 40) * sectionSize));
                int file = Offset(section), nextFile;
                do
                {
                    int version = file + BitConverter.ToInt32(elf, file + 8), nextVersion;
                    do
                    {
                        var flags = BitConverter.ToUInt16(elf, version + 4);
                        if ((flags & Weak) == 0 && HasName(names + BitConverter.ToInt32(elf, version + 8)))
                        {
                            BitConverter.GetBytes((ushort)(flags | Weak)).CopyTo(elf, version + 4);
                            isChanged = true;
                        }

                        version += nextVersion = BitConverter.ToInt32(elf, version + 12);
                    }
                    while (nextVersion > 0);

                    file += nextFile = BitConverter.ToInt32(elf, file + 12);
                }
                while (nextFile > 0);
            }
        }
        catch (Exception e) when (e is ArgumentException || e is OverflowException)
        {
            throw new InvalidDataException("The library is a truncated or damaged ELF file: restore TorchSharp's package again.", e);
        }

        return isChanged;

        int Offset(int section) => checked((int)BitConverter.ToInt64(elf, section + 24));

        bool HasName(int start)
        {
            if (start < 0 || start >= elf.Length)
            {
                throw new ArgumentOutOfRangeException(nameof(start));
            }

            return start + Version.Length < elf.Length && Encoding.ASCII.GetString(elf, start, Version.Length + 1) == Version + "\0";
        }
    }
}
