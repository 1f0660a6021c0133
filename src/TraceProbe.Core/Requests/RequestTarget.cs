using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Text;
using System.Text.Json.Serialization;
using TraceProbe.Core.Net;

namespace TraceProbe.Core.Requests;

/// <summary>What to speak once connected.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<RequestScheme>))]
public enum RequestScheme
{
    /// <summary>Connect, then close.</summary>
    Tcp,

    /// <summary>Send one empty datagram and wait for any answer.</summary>
    Udp,

    /// <summary>GET over plain HTTP/1.1.</summary>
    Http,

    /// <summary>GET over TLS.</summary>
    Https,
}

/// <summary>What a request is for, as the user wrote it.</summary>
/// <param name="Scheme">What to speak.</param>
/// <param name="Host">A DNS name or an address, without brackets.</param>
/// <param name="Port">The port, 1 to 65535.</param>
/// <param name="Path">Path and query for HTTP, from the slash on.</param>
public sealed record RequestTarget(RequestScheme Scheme, string Host, ushort Port, string Path)
{
    /// <summary>The address, when the host is one.</summary>
    [JsonIgnore]
    public IpAddress? Address => IpAddress.TryParse(Host, null, out var address) ? address : null;

    /// <summary>The transport protocol.</summary>
    [JsonIgnore]
    public IpProtocol Protocol => Scheme == RequestScheme.Udp ? IpProtocol.Udp : IpProtocol.Tcp;

    /// <summary>
    /// Parses <c>http://host[:port][/path]</c>, <c>https://…</c>, <c>tcp://host:port</c>, <c>udp://host:port</c>, <c>host[:port][/path]</c>
    /// (taken as HTTP, as curl does), or <c>svc/NAME[:PORT][/path]</c> (the Service's cluster name; <paramref name="ns"/> is its
    /// namespace). A dot at the end of the host is kept: it makes the name absolute.
    /// </summary>
    /// <param name="text">What the user wrote.</param>
    /// <param name="ns">The namespace for <c>svc/NAME</c>.</param>
    /// <param name="clusterDomain">The cluster's DNS domain for <c>svc/NAME</c>.</param>
    /// <param name="target">The result.</param>
    /// <param name="error">What is wrong and what to write instead, when false is returned.</param>
    public static bool TryParse(string text, string ns, string clusterDomain, [NotNullWhen(true)] out RequestTarget? target, [NotNullWhen(false)] out string? error)
    {
        ArgumentNullException.ThrowIfNull(text);
        target = null;
        error = null;
        var scheme = RequestScheme.Http;
        ushort? defaultPort = 80;
        var rest = text.Trim();
        var separator = rest.IndexOf("://", StringComparison.Ordinal);
        // my-nginx/?to=http://x has no scheme.
        if (separator >= 0 && !rest.AsSpan(0, separator).ContainsAny("/?#"))
        {
            switch (rest[..separator].ToLowerInvariant())
            {
                case "http": break;
                case "https": (scheme, defaultPort) = (RequestScheme.Https, 443); break;
                case "tcp": (scheme, defaultPort) = (RequestScheme.Tcp, null); break;
                case "udp": (scheme, defaultPort) = (RequestScheme.Udp, null); break;
                default:
                    error = $"'{rest[..separator]}' is not a scheme TraceProbe speaks; use http://, https://, tcp://HOST:PORT, udp://HOST:PORT or svc/NAME:PORT.";
                    return false;
            }

            rest = rest[(separator + 3)..];
        }
        else
        {
            separator = -1;
        }

        // The words kubectl takes for the kind.
        var isService = false;
        var slash = rest.IndexOf('/', StringComparison.Ordinal);
        if (separator < 0 && slash > 0 && rest[..slash].ToLowerInvariant() is "svc" or "service" or "services")
        {
            isService = true;
            rest = rest[(slash + 1)..];
        }

        var pathAt = rest.AsSpan().IndexOfAny("/?#");
        var authority = pathAt < 0 ? rest : rest[..pathAt];
        if (!TryPath(pathAt < 0 ? "" : rest[pathAt..], out var path))
        {
            error = "The path holds a space or a control character; write it percent-encoded, such as %20.";
            return false;
        }

        if (authority.Contains('@', StringComparison.Ordinal))
        {
            error = "A user name in the URL is not supported; TraceProbe sends no credentials.";
            return false;
        }

        string host;
        string? portText = null;
        if (authority.StartsWith('['))
        {
            var close = authority.IndexOf(']', StringComparison.Ordinal);
            if (isService || close < 0 || !authority.AsSpan(1, close - 1).Contains(':') || !IpAddress.TryParse(authority.AsSpan(1, close - 1), null, out var v6))
            {
                error = $"'{authority}' is not an IPv6 address in brackets, such as [fd00::1]:80.";
                return false;
            }

            host = v6.ToString();
            var after = authority[(close + 1)..];
            if (after.Length > 0 && after[0] != ':')
            {
                error = $"'{authority}': after the bracket only :PORT can follow.";
                return false;
            }

            portText = after.Length > 0 ? after[1..] : null;
        }
        else
        {
            var colon = authority.IndexOf(':', StringComparison.Ordinal);
            if (colon != authority.LastIndexOf(':'))
            {
                error = $"'{authority}' has several colons; put an IPv6 address in brackets, such as [fd00::1]:80.";
                return false;
            }

            host = colon < 0 ? authority : authority[..colon];
            portText = colon < 0 ? null : authority[(colon + 1)..];
            if (host.Length == 0)
            {
                error = $"'{text}' names no host.";
                return false;
            }

            if (isService && host.Contains('.', StringComparison.Ordinal))
            {
                error = $"'{host}' is not a Service's name, which holds no dot; choose its namespace with -n, or write http://{host}.";
                return false;
            }

            if (!IsHost(host))
            {
                error = $"'{host}' is not a host name.";
                return false;
            }

            // Resolvers read 10.1 and 0x7f.1 as addresses in notations of their own (inet_aton(3)); no Service is named so.
            if (!IpAddress.TryParse(host, null, out _) && LooksNumeric(host))
            {
                error = $"'{host}' is not an address; write all four numbers, 0 to 255, such as 10.96.0.1.";
                return false;
            }
        }

        ushort port;
        if (portText is null)
        {
            if (defaultPort is null)
            {
                error = $"'{text}' needs a port, such as {scheme.ToString().ToLowerInvariant()}://{host}:8080.";
                return false;
            }

            port = defaultPort.Value;
        }
        else if (!ushort.TryParse(portText, NumberStyles.None, CultureInfo.InvariantCulture, out port) || port == 0)
        {
            error = $"'{portText}' is not a port; ports are 1 to 65535.";
            return false;
        }

        if (isService)
        {
            host = $"{host}.{ns}.svc.{clusterDomain}";
            if (!IsHost(host))
            {
                error = $"'{host}' is not a host name; the namespace (-n) or the cluster domain does not fit.";
                return false;
            }
        }

        target = new RequestTarget(scheme, host, port, path);
        return true;
    }

    /// <inheritdoc/>
    public override string ToString()
    {
        var host = Address is { IsIPv4: false } ? $"[{Host}]" : Host;
        return Scheme is RequestScheme.Tcp or RequestScheme.Udp
            ? string.Create(CultureInfo.InvariantCulture, $"{(Scheme == RequestScheme.Tcp ? "tcp" : "udp")}://{host}:{Port}")
            : string.Create(CultureInfo.InvariantCulture, $"{(Scheme == RequestScheme.Http ? "http" : "https")}://{host}:{Port}{Path}");
    }

    // The path goes into the request line as it is: what would end that line must not be in it. The fragment is never sent.
    private static bool TryPath(string text, out string path)
    {
        var fragment = text.IndexOf('#', StringComparison.Ordinal);
        path = fragment < 0 ? text : text[..fragment];
        path = path.StartsWith('/') ? path : "/" + path;
        foreach (var c in path)
        {
            if (c is <= ' ' or '\x7f')
            {
                return false;
            }
        }

        if (Ascii.IsValid(path))
        {
            return true;
        }

        var encoded = new StringBuilder(path.Length + 16);
        foreach (var value in Encoding.UTF8.GetBytes(path))
        {
            _ = value < 0x80 ? encoded.Append((char)value) : encoded.Append(CultureInfo.InvariantCulture, $"%{value:X2}");
        }

        path = encoded.ToString();
        return true;
    }

    // Labels of 1 to 63 letters, digits, hyphens and, as clusters have them, underscores; 253 in all; one dot may end it.
    private static bool IsHost(ReadOnlySpan<char> host)
    {
        if (host.EndsWith('.'))
        {
            host = host[..^1];
        }

        var label = 0;
        foreach (var c in host)
        {
            if (c == '.' ? label == 0 : label == 63 || !char.IsAsciiLetterOrDigit(c) && c is not ('-' or '_'))
            {
                return false;
            }

            label = c == '.' ? 0 : label + 1;
        }

        return label > 0 && host.Length <= 253;
    }

    private static bool LooksNumeric(ReadOnlySpan<char> host)
    {
        host = host.TrimEnd('.');
        var last = host[(host.LastIndexOf('.') + 1)..];
        var hexadecimal = last.StartsWith("0x", StringComparison.OrdinalIgnoreCase);
        foreach (var c in hexadecimal ? last[2..] : last)
        {
            if (hexadecimal ? !char.IsAsciiHexDigit(c) : !char.IsAsciiDigit(c))
            {
                return false;
            }
        }

        return true;
    }
}
