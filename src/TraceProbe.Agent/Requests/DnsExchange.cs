using System.Collections.Immutable;
using TraceProbe.Capture;
using TraceProbe.Core.Dns;
using TraceProbe.Core.Net;
using TraceProbe.Core.Requests;

namespace TraceProbe.Agent.Requests;

/// <summary>One question on its way to one nameserver, and how it ended.</summary>
internal sealed class DnsExchange(string name, DnsRecordType type, AddressPort nameserver, IpProtocol transport)
{
    private readonly string _asked = name.ToLowerInvariant();
    private long _end;

    /// <summary>The number that ties the answer to the question; hard to guess for who cannot see the question.</summary>
    internal ushort Id { get; } = (ushort)Random.Shared.Next(0x10000);

    internal DnsRecordType Type => type;

    internal AddressPort Nameserver => nameserver;

    internal long Sent { get; set; }

    /// <summary>How it ended; null while the answer is awaited.</summary>
    internal LookupOutcome? Outcome { get; private set; }

    internal DnsResponseCode? Code { get; private set; }

    internal ImmutableArray<IpAddress> Addresses { get; private set; } = [];

    /// <summary>Whether the answer held records at all: a CNAME that leads nowhere is an answer to glibc's search.</summary>
    internal bool HasRecords { get; private set; }

    /// <summary>Whether the nameserver would not say, so that another is asked (SERVFAIL, NOTIMP, REFUSED; glibc <c>send_dg</c>).</summary>
    internal bool WouldNotSay => Code is DnsResponseCode.ServFail or DnsResponseCode.NotImp or DnsResponseCode.Refused;

    /// <summary>The question's bytes; false if the name cannot be asked for.</summary>
    internal bool TryWrite(Span<byte> destination, bool edns, out int written)
        => DnsQuery.TryWrite(destination, Id, name, type, out written, ednsPayloadSize: edns ? EdnsPayloadSize : (ushort)0);

    internal void End(LookupOutcome outcome)
    {
        Outcome = outcome;
        _end = BootClock.Now;
    }

    /// <summary>
    /// Takes a message if it is the answer to this question: same number, same question (RFC 5452 section 9). Anything else is not
    /// for us, or forged, and the wait goes on, as in both libraries.
    /// </summary>
    internal bool TryTake(ReadOnlySpan<byte> bytes)
    {
        if (Outcome is not null || bytes.Length < DnsReader.HeaderLength || (bytes[0] << 8 | bytes[1]) != Id || (bytes[2] & 0x80) == 0)
        {
            return false;
        }

        if (!DnsMessage.TryRead(bytes, out var message))
        {
            End(LookupOutcome.Malformed);
            return true;
        }

        // A server that could not read the question may leave it out.
        if (message.Question is { } question ? question.Type != type || question.Name != _asked : message.ResponseCode == DnsResponseCode.NoError)
        {
            return false;
        }

        Code = message.ResponseCode;
        if (message.IsTruncated && transport == IpProtocol.Udp)
        {
            End(LookupOutcome.Truncated);
        }
        else if (message.ResponseCode == DnsResponseCode.NXDomain)
        {
            End(LookupOutcome.NameError);
        }
        else if (message.ResponseCode != DnsResponseCode.NoError)
        {
            End(LookupOutcome.ServerFailure);
        }
        else if (message.Partial)
        {
            End(LookupOutcome.Malformed);
        }
        else
        {
            HasRecords = message.Answers.Length > 0;
            var addresses = ImmutableArray.CreateBuilder<IpAddress>();
            foreach (var address in message.Addresses)
            {
                if (addresses.Count < MaxAddresses)
                {
                    addresses.Add(address);
                }
            }

            Addresses = addresses.DrainToImmutable();
            End(Addresses.IsEmpty ? LookupOutcome.NoData : LookupOutcome.Answered);
        }

        return true;
    }

    internal Lookup ToLookup()
        => new(_asked, type.ToString(), nameserver, transport, Outcome ?? LookupOutcome.TimedOut, Addresses, Sent, Outcome is null ? BootClock.Now : _end)
        {
            ResponseCode = Code,
        };

    private const ushort EdnsPayloadSize = 1232;

    // musl keeps this many of one answer; nobody connects to more.
    private const int MaxAddresses = 48;
}
