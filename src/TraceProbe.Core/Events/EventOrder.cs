namespace TraceProbe.Core.Events;

/// <summary>The order of events in time. Those of several processors, or namespaces, come out of order by microseconds.</summary>
public static class EventOrder
{
    /// <summary>Sorts by time; events of one nanosecond keep the order they came in.</summary>
    /// <param name="events">The events, sorted in place.</param>
    public static void SortByTime(NetworkEvent[] events)
    {
        ArgumentNullException.ThrowIfNull(events);
        var isSorted = true;
        for (var i = 1; i < events.Length && isSorted; i++)
        {
            isSorted = events[i - 1].BootNanoseconds <= events[i].BootNanoseconds;
        }

        if (isSorted)
        {
            return;
        }

        // Their numbers and not the events, which are large; and sorting integers needs no code that is compiled at start.
        var order = new int[events.Length];
        for (var i = 0; i < order.Length; i++)
        {
            order[i] = i;
        }

        var unsorted = events.ToArray();
        Array.Sort(order, (a, b) => unsorted[a].BootNanoseconds.CompareTo(unsorted[b].BootNanoseconds) is not 0 and var byTime ? byTime : a.CompareTo(b));
        for (var i = 0; i < order.Length; i++)
        {
            events[i] = unsorted[order[i]];
        }
    }
}
