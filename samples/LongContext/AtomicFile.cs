using System.Text;

namespace LongContext;

/// <summary>Writes files so that a reader sees the old file or the new one, never a part.</summary>
public static class AtomicFile
{
    /// <summary>Creates the folder of a file and checks that the file can be written. Called before the work, so that a bad path is refused early.</summary>
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
