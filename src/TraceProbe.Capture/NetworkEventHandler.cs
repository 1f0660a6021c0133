using TraceProbe.Core.Events;

namespace TraceProbe.Capture;

/// <summary>
/// Takes one event from a source. Called on the source's own thread, so it copies what it needs and returns; the event's payload,
/// where there is one, belongs to the event and may be kept.
/// </summary>
/// <param name="e">The event.</param>
public delegate void NetworkEventHandler(in NetworkEvent e);
