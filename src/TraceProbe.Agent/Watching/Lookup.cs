using TraceProbe.Core.Dns;
using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Watching;

/// <summary>
/// One name's way through a client's search path, as its questions and answers show it: <c>my-nginx</c> is asked for as <c>my-nginx.default.svc.cluster.local</c>,
/// <c>my-nginx.svc.cluster.local</c> and so on, and those questions are one lookup.
/// </summary>
internal sealed class Lookup(uint netNs, int pid, ShortName command, long start, HashSet<string> meant)
{
    /// <summary>The most events that are kept; a client that asks again and again adds nothing new.</summary>
    public const int MostEvents = 120;

    private readonly List<Question> _questions = [];

    /// <summary>The client's network namespace.</summary>
    public uint NetNs { get; } = netNs;

    /// <summary>The client's process; 0 when not known.</summary>
    public int Pid { get; } = pid;

    /// <summary>Its name.</summary>
    public ShortName Command { get; } = command;

    /// <summary>When the first question was sent.</summary>
    public long StartNanoseconds { get; } = start;

    /// <summary>When the last question was sent, or the last answer came.</summary>
    public long LastNanoseconds { get; private set; } = start;

    /// <summary>Its events, at every place they were seen.</summary>
    public List<NetworkEvent> Events { get; } = [];

    /// <summary>The tuples that are known to be its questions'.</summary>
    public List<FiveTuple> Tuples { get; } = [];

    /// <summary>The addresses that were answered.</summary>
    public HashSet<IpAddress> Addresses { get; } = [];

    /// <summary>The names asked for, in order, each once.</summary>
    public List<string> Names { get; } = [];

    /// <summary>Where the first question went.</summary>
    public IpAddress Resolver { get; private set; }

    /// <summary>Whether it has been handed over as failed already.</summary>
    public bool IsReported { get; set; }

    /// <summary>Whether a question is still without an answer.</summary>
    public bool HasUnanswered => _questions.Exists(q => q.AnsweredNanoseconds is null);

    /// <summary>When the question that has waited longest was sent; null when all are answered.</summary>
    public long? WaitingSince => _questions.Find(q => q.AnsweredNanoseconds is null) is { Sent: > 0 } q ? q.Sent : null;

    /// <summary>When the first address came; null when none did.</summary>
    public long? ResolvedNanoseconds { get; private set; }

    /// <summary>How long it took until the first address, and for the slowest of its questions, in nanoseconds.</summary>
    public long SlowestNanoseconds => Math.Max((ResolvedNanoseconds ?? LastNanoseconds) - StartNanoseconds, _questions.Count == 0 ? 0 : _questions.Max(q => (q.AnsweredNanoseconds ?? LastNanoseconds) - q.Sent));

    /// <summary>
    /// Whether a question can belong to it: whether some name could have been meant by all of its questions and this one, and this one has no answer yet. Who asks
    /// again what was answered begins anew; but a server that failed is asked again, or the next one.
    /// </summary>
    public bool Accepts(DnsQuestion question, HashSet<string> candidates)
        => meant.Overlaps(candidates) && !_questions.Exists(q => q.Name == question.Name && q.Type == question.Type && q.IsFinal);

    /// <summary>Whether a question is one of the same lookup begun anew.</summary>
    public bool IsBegunAnewBy(DnsQuestion question) => !HasUnanswered && _questions.Exists(q => q.Name == question.Name && q.Type == question.Type && q.IsFinal);

    /// <summary>What the user can have meant by it: the shortest name that all of its questions are made of.</summary>
    public string Meant => meant.MinBy(n => n.Length) ?? Names[0];

    /// <summary>A question that left the client.</summary>
    public void Ask(in NetworkEvent e, DnsMessage question, HashSet<string> candidates)
    {
        if (meant.Overlaps(candidates))
        {
            meant.IntersectWith(candidates);
        }

        var name = question.Question!.Name;
        Resolver = Names.Count == 0 ? e.Tuple.Destination.Address : Resolver;
        if (!Names.Contains(name))
        {
            Names.Add(name);
        }

        // Asked again, of this nameserver or the next: it still waits since the first time.
        if (!_questions.Exists(q => q.Name == name && q.Type == question.Question.Type && q.AnsweredNanoseconds is null) && _questions.Count < MostEvents)
        {
            _questions.Add(new Question(question.Id, name, question.Question.Type, e.BootNanoseconds));
        }
        else if (_questions.FindIndex(q => q.Name == name && q.Type == question.Question.Type && q.AnsweredNanoseconds is null) is >= 0 and var at)
        {
            _questions[at] = _questions[at] with { Id = question.Id };
        }

        LastNanoseconds = e.BootNanoseconds;
    }

    /// <summary>An answer that reached the client.</summary>
    public void Answer(in NetworkEvent e, DnsMessage answer)
    {
        var at = _questions.FindIndex(q => q.Id == answer.Id && q.AnsweredNanoseconds is null && (answer.Question is null || answer.Question.Name == q.Name));
        if (at < 0)
        {
            return;
        }

        _questions[at] = _questions[at] with { AnsweredNanoseconds = e.BootNanoseconds, IsFinal = answer.ResponseCode is DnsResponseCode.NoError or DnsResponseCode.NXDomain };
        LastNanoseconds = e.BootNanoseconds;
        foreach (var address in answer.Addresses)
        {
            Addresses.Add(address);
            ResolvedNanoseconds ??= e.BootNanoseconds;
        }
    }

    /// <summary>An error that reached the client in place of answers: nobody waits for these any longer.</summary>
    public void Refuse(in NetworkEvent e)
    {
        for (var i = 0; i < _questions.Count; i++)
        {
            _questions[i] = _questions[i].AnsweredNanoseconds is null ? _questions[i] with { AnsweredNanoseconds = e.BootNanoseconds } : _questions[i];
        }

        LastNanoseconds = e.BootNanoseconds;
    }

    /// <summary>Keeps an event, if there is room.</summary>
    public void Keep(in NetworkEvent e)
    {
        if (Events.Count < MostEvents)
        {
            Events.Add(e);
        }
    }

    private readonly record struct Question(ushort Id, string Name, DnsRecordType Type, long Sent, long? AnsweredNanoseconds = null, bool IsFinal = false);
}
