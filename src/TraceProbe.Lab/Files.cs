using System.Text;

namespace TraceProbe.Lab;

/// <summary>Writing files so that no reader ever sees half of one.</summary>
internal static class Files
{
    /// <summary>Replaces a file by renaming a complete one over it.</summary>
    internal static void Replace(string path, ReadOnlySpan<byte> content)
    {
        var part = $"{path}.{Environment.ProcessId}.{Environment.CurrentManagedThreadId}.part";
        File.WriteAllBytes(part, content);
        File.Move(part, path, overwrite: true);
    }

    /// <inheritdoc cref="Replace(string, ReadOnlySpan{byte})"/>
    internal static void Replace(string path, string content) => Replace(path, Encoding.UTF8.GetBytes(content));

    /// <summary>Replaces a file only when its content differs; says whether it did.</summary>
    internal static bool ReplaceIfChanged(string path, string content)
    {
        if (File.Exists(path) && File.ReadAllText(path) == content)
        {
            return false;
        }

        Replace(path, content);
        return true;
    }
}
