using TraceProbe.Core.Diagnosis;
using TraceProbe.Lab;

namespace TraceProbe.Scenarios.Tests;

/// <summary>One cell of the tables fault × mode and fault × way of asking: added to cells.tsv in the folder $TRACEPROBE_MATRIX, when that is set, with a recording beside it.</summary>
public sealed class MatrixRow(Fault fault, ProxyMode mode, string way) : IDisposable
{
    private static readonly Lock File = new();
    /// <summary>Whether the whole table is wanted.</summary>
    public static bool IsAsked => Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX") is { Length: > 0 };

    private readonly string? _path = Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX");
    private string _verdict = "none";
    private string _sentence = "";
    private string _mend = "";
    private string _mended = "";

    /// <summary>The options that have the request recorded.</summary>
    public string[] Recording => _path is not { Length: > 0 } ? [] : ["--save", Path.Combine(_path, $"{mode}.{fault.Name}{(fault.Variant is null ? "" : $".{fault.Variant}")}{(way == Way.Own ? "" : $".{way}")}.tprec")];

    public void Told(Outcome outcome)
    {
        if (outcome.Output.Length == 0)
        {
            _sentence = outcome.Error;
            return;
        }

        var verdict = outcome.Verdict;
        (_verdict, _sentence, _mend) = ($"{FailureClassInfo.Of(verdict.Class).Name}{(verdict.Confidence == Confidence.Likely ? " (likely)" : "")}", verdict.Sentence, verdict.Mend?.Command is { } command ? $"{verdict.Mend.On}: {command}" : $"({verdict.Mend?.Text})");
    }

    public void Mended(Outcome outcome) => _mended = outcome.Output.Length == 0 ? outcome.Error : FailureClassInfo.Of(outcome.Verdict.Class).Name;

    public void Dispose()
    {
        if (_path is { Length: > 0 })
        {
            Write(_path, mode, way, fault, _verdict, _mended, _sentence, _mend);
        }
    }

    /// <summary>Notes that a fault cannot be met in a way of asking, and why.</summary>
    public static void NotApplicable(ProxyMode mode, string way, Fault fault, string reason)
        => Write(Environment.GetEnvironmentVariable("TRACEPROBE_MATRIX")!, mode, way, fault, "n/a", "", reason, "");

    private static void Write(string path, ProxyMode mode, string way, Fault fault, params string[] rest)
    {
        lock (File)
        {
            System.IO.File.AppendAllText(Path.Combine(path, "cells.tsv"), string.Join('\t', [mode.ToString(), way, fault.Name, fault.Variant ?? "", .. rest.Select(r => r.ReplaceLineEndings(" "))]) + "\n");
        }
    }
}
