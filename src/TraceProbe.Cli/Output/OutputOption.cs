using System.CommandLine;
using System.CommandLine.Completions;
using System.CommandLine.Parsing;

namespace TraceProbe.Cli.Output;

/// <summary>The forms a report is written in.</summary>
internal enum OutputFormat
{
    /// <summary>For people.</summary>
    Text,

    /// <summary>For programs; see report.schema.json.</summary>
    Json,

    /// <summary>The packets, for Wireshark and tshark.</summary>
    Pcapng,
}

/// <summary><c>-o text|json|pcapng</c>.</summary>
internal static class OutputOption
{
    /// <summary>The option.</summary>
    public static Option<OutputFormat> Create()
    {
        var option = new Option<OutputFormat>("--output", "-o")
        {
            Description = "text, json (see report.schema.json) or pcapng (the packets; to a file or a pipe).", HelpName = "FORM",
            CustomParser = Parse,
        };
        option.CompletionSources.Clear();
        option.CompletionSources.Add(_ => [new CompletionItem("text"), new CompletionItem("json"), new CompletionItem("pcapng")]);
        return option;
    }

    // The enum's own parser would take numbers and lists too, and a validator cannot ask for a value that did not parse.
    private static OutputFormat Parse(ArgumentResult result)
    {
        switch (result.Tokens is [var token] ? token.Value.ToLowerInvariant() : "")
        {
            case "text":
                return OutputFormat.Text;
            case "json":
                return OutputFormat.Json;
            case "pcapng":
                if (!Console.IsOutputRedirected)
                {
                    result.AddError("-o pcapng writes bytes that a terminal cannot show: redirect it to a file, or use --pcap FILE beside the report.");
                }

                return OutputFormat.Pcapng;
            default:
                result.AddError($"'{(result.Tokens is [var other] ? other.Value : "")}' is no form of output; there are text, json and pcapng.");
                return default;
        }
    }
}
