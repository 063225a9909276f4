using System.Text;

namespace LongContext;

/// <summary>Files that a reader sees as they were or as they will be, never in part.</summary>
public static class AtomicFile
{
    /// <summary>Finds out, before the work whose result it is to hold, whether a file can be written; makes its folder.</summary>
    public static void Check(string path)
    {
        if (Directory.Exists(path))
        {
            throw new InputException($"'{path}' is a folder: give the name of a file.");
        }

        try
        {
            Create(path, FileOptions.DeleteOnClose).Dispose();
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new InputException($"'{path}' cannot be written: {error.Message}");
        }
    }

    public static void Write(string path, string text) => Write(path, file => file.Write(Encoding.UTF8.GetBytes(text)));

    public static void Write(string path, Action<Stream> write)
    {
        using (var file = Create(path, FileOptions.None))
        {
            write(file);
            file.Flush();
        }
        File.Move(Unfinished(path), path, overwrite: true);
    }

    private static FileStream Create(string path, FileOptions options)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        return File.Create(Unfinished(path), 4096, options);
    }

    private static string Unfinished(string path) => path + ".part";
}
