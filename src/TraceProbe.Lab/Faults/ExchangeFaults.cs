using System.Collections.Immutable;

namespace TraceProbe.Lab;

/// <summary>Faults of the server behind Service hostnames, once the connection stands.</summary>
internal static class ExchangeFaults
{
    internal static ImmutableArray<Fault> All { get; } =
    [
        Misbehaving("no-response", null, Behaviours.Silent, "The server of hostnames takes requests and never answers.", "\"Operation timed out\"."),
        new Fault("no-response",
            "The server of hostnames hangs: the kernel still takes connections for it.",
            "\"Operation timed out\".",
            make: b => b.Freeze(b.Hostnames, frozen: true),
            undo: b => b.Freeze(b.Hostnames, frozen: false),
            holds: b => b.IsFrozen(b.Hostnames))
        {
            Variant = "hung",
            Url = "http://hostnames",
        },
        Misbehaving("closed-without-reply", null, Behaviours.Close, "The server of hostnames closes each connection after the request.", "\"Empty reply from server\"."),
        Misbehaving("reset-by-peer", null, Behaviours.Reset, "The server of hostnames resets each connection after the request.", "\"Connection reset by peer\"."),
        Misbehaving("reset-by-peer", "in-the-middle", Behaviours.ResetInTheMiddle, "The server of hostnames resets each connection in the middle of its answer.", "\"Connection reset by peer\"."),
        Misbehaving("tls-mismatch", null, Behaviours.Tls, "The server of hostnames speaks TLS, and is asked in plain HTTP.", "\"Empty reply from server\", or bytes that are no HTTP."),
        Misbehaving("http-error", null, Behaviours.Unavailable, "The server of hostnames answers 503 to everything.", "\"503 Service Unavailable\"."),
        Misbehaving("response-stalled", null, Behaviours.Stall, "The server of hostnames sends half of its answer and then nothing.", "\"Operation timed out\" with part of the answer."),
        Misbehaving("slower-than-baseline", null, Behaviours.Slow, "The server of hostnames takes more than a second for each answer.", "Slowness; against a baseline it shows."),
    ];

    internal static Fault Misbehaving(string name, string? variant, string behaviour, string description, string symptom, string url = "http://hostnames") => new(name, description, symptom,
        make: b => b.Misbehave(b.Hostnames, behaviour),
        undo: b => b.Restart([b.Hostnames]),
        holds: b => Behaviours.Of(b.Folder, LabObjects.HostnamesPod) == behaviour)
    {
        Variant = variant,
        Url = url,
    };
}
