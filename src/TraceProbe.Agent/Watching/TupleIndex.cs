using TraceProbe.Core.Events;
using TraceProbe.Core.Net;

namespace TraceProbe.Agent.Watching;

/// <summary>Whose a tuple is, and whether it goes from the client to the server.</summary>
internal readonly record struct TupleOwner<T>(T Of, bool Forward);

/// <summary>Finds whose packet it is, by its tuple or by what conntrack says of it, in both directions and across any number of translations.</summary>
internal sealed class TupleIndex<T>
    where T : class
{
    private readonly Dictionary<FiveTuple, TupleOwner<T>> _owners = [];

    /// <summary>Whose packet this is.</summary>
    /// <param name="tuple">The packet's tuple, or the one that it quotes.</param>
    /// <param name="e">What was seen of it.</param>
    /// <param name="owner">The owner, and the direction of <paramref name="tuple"/>.</param>
    public bool TryFind(in FiveTuple tuple, in NetworkEvent e, out TupleOwner<T> owner)
    {
        if (_owners.TryGetValue(tuple, out owner))
        {
            return true;
        }

        if (!e.HasConntrack)
        {
            return false;
        }

        // The entry's original direction, before translation or after it.
        var isOriginal = tuple == e.Original || tuple == e.Reply.Reverse || tuple.Source == e.Original.Source;
        if (_owners.TryGetValue(e.Original, out owner))
        {
            owner = owner with { Forward = owner.Forward == isOriginal };
            return true;
        }

        if (_owners.TryGetValue(e.Reply, out owner))
        {
            owner = owner with { Forward = owner.Forward != isOriginal };
            return true;
        }

        return false;
    }

    /// <summary>Makes what conntrack ties to a packet its owner's too.</summary>
    /// <param name="owner">Whose packet it is.</param>
    /// <param name="e">What was seen of it.</param>
    /// <param name="tuples">Where the owner's tuples are noted.</param>
    public void Tie(TupleOwner<T> owner, in NetworkEvent e, List<FiveTuple> tuples)
    {
        if (!e.HasConntrack)
        {
            return;
        }

        var forward = _owners.TryGetValue(e.Original, out var original) ? original.Forward
            : _owners.TryGetValue(e.Reply, out var reply) ? !reply.Forward : owner.Forward;
        Own(e.Original, new TupleOwner<T>(owner.Of, forward), tuples);
        Own(e.Reply, new TupleOwner<T>(owner.Of, !forward), tuples);
    }

    /// <summary>Gives a tuple and its reverse to an owner; who had them before has them no more.</summary>
    public void Own(in FiveTuple tuple, TupleOwner<T> owner, List<FiveTuple> tuples)
    {
        Set(tuple, owner, tuples);
        Set(tuple.Reverse, owner with { Forward = !owner.Forward }, tuples);
    }

    /// <summary>Forgets an owner's tuples.</summary>
    public void Forget(T owner, List<FiveTuple> tuples)
    {
        foreach (var tuple in tuples)
        {
            if (_owners.TryGetValue(tuple, out var known) && known.Of == owner)
            {
                _owners.Remove(tuple);
            }
        }
    }

    private void Set(in FiveTuple tuple, TupleOwner<T> owner, List<FiveTuple> tuples)
    {
        if (!_owners.TryGetValue(tuple, out var known) || known.Of != owner.Of)
        {
            _owners[tuple] = owner;
            tuples.Add(tuple);
        }
    }
}
