namespace LongContext;

/// <summary>Files that a reader sees as they were or as they will be, never in part.</summary>
public static class AtomicFile
{
    public static void Write(string path, Action<Stream> write)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        var unfinished = path + ".part";
        using (var file = File.Create(unfinished))
        {
            write(file);
            file.Flush();
        }
        File.Move(unfinished, path, overwrite: true);
    }
}
