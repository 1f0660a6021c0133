/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The contract between the programs in the kernel and whoever loads them: what
 * is configured before load, what the maps hold, and what comes out of the
 * ring. Every field has a fixed width and every hole a name.
 *
 * Addresses are 16 bytes, IPv4 in its mapped form (::ffff:a.b.c.d). Addresses
 * and ports are in network order, everything else is in the machine's.
 */
#ifndef TRACEPROBE_EVENTS_H
#define TRACEPROBE_EVENTS_H

enum tp_event_kind {
	TP_EVENT_NONE = 0,
	TP_EVENT_PACKET_QUEUED = 1,
	TP_EVENT_PACKET_RECEIVED = 2,
	TP_EVENT_PACKET_DROPPED = 3,
	TP_EVENT_SOCKET_STATE_CHANGED = 4,
	TP_EVENT_RESET_SENT = 5,
	TP_EVENT_RESET_RECEIVED = 6,
	TP_EVENT_SEGMENT_RETRANSMITTED = 7,
	TP_EVENT_SOCKET_ERROR_REPORTED = 8,
	TP_EVENT_PROCESS_FORKED = 9,
	TP_EVENT_PROCESS_EXECUTED = 10,
	TP_EVENT_PROCESS_EXITED = 11,
	/* Made in user space, out of the counts in the map `lost`. */
	TP_EVENT_OBSERVATION_GAP = 12,
};

/* tp_event.flags */
enum tp_event_flags {
	TP_HAS_CONNTRACK = 1,	/* original and reply are filled */
	TP_HAS_QUOTED = 2,	/* quoted is filled */
	TP_HAS_DROP_REASON = 4,	/* drop_reason is the kernel's (5.17 and later) */
	TP_IS_BRIEF = 8,	/* of its flow only what tells how it went is reported */
};

/* Flags of an entry in the map `pids`. */
enum tp_pid_flags {
	TP_PID_FOLLOW_CHILDREN = 1,	/* what it forks is followed too */
	TP_PID_QUIET = 2,		/* its sockets only: no fork, exec or exit events */
};

#define TP_NAME_SIZE 16
#define TP_PAYLOAD_DNS 512
#define TP_PAYLOAD_LINE 512	/* of which user space keeps a line, an answer's length, a traceparent */

struct tp_tuple {
	__u8 source[16];
	__u8 destination[16];
	__u16 source_port;	/* network order */
	__u16 destination_port;	/* network order */
	__u8 protocol;
	__u8 turned;		/* the kernel's own note: destination comes first in a flow's key */
	__u8 reserved[2];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct tp_tuple) == 40, "tp_tuple is 40 bytes");

/* One record in the ring, followed by `captured` bytes of payload. */
struct tp_event {
	__u64 boot_ns;		/* CLOCK_BOOTTIME */
	__u64 cgroup;		/* cgroup v2 id of the process */
	__u64 socket;		/* opaque */
	__u32 netns;		/* inode number */
	__u32 ifindex;
	__u8 kind;		/* enum tp_event_kind */
	__u8 flags;		/* enum tp_event_flags */
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 old_state;
	__u8 new_state;
	__u8 reserved;
	__u32 pid;		/* thread group */
	__u32 child;
	__u32 sequence;
	__u32 acknowledgment;
	__u32 payload_length;	/* in the packet, whatever was captured */
	__u32 drop_reason;	/* enum skb_drop_reason of the running kernel */
	__s32 error;		/* errno, positive */
	__u32 captured;
	__u8 ifname[TP_NAME_SIZE];
	__u8 comm[TP_NAME_SIZE];
	struct tp_tuple tuple;
	struct tp_tuple original;
	struct tp_tuple reply;
	struct tp_tuple quoted;
};

_Static_assert(sizeof(struct tp_event) == 264, "tp_event is 264 bytes");

/* Key of the map `flows`: a tuple whose smaller end comes first, so that both
 * directions of a flow are one key. ICMP echo carries its id in both ports. */
struct tp_flow_key {
	__u8 low[16];
	__u8 high[16];
	__u16 low_port;
	__u16 high_port;
	__u8 protocol;
	__u8 reserved[3];
} __attribute__((aligned(8)));

_Static_assert(sizeof(struct tp_flow_key) == 40, "tp_flow_key is 40 bytes");

struct tp_flow {
	__u32 begun;		/* TCP: the sequence number of the SYN that it was seen to begin with; a port is used again sooner than a flow is forgotten */
	__u32 lines_seen;	/* bit 0: first payload low to high was captured; bit 1: high to low */
	__u32 brief;		/* 0, or the client's namespace: report only SYN, FIN, RST, what the client first sends and gets, drops, errors */
};

_Static_assert(sizeof(struct tp_flow) == 12, "tp_flow is 12 bytes");

/* Value of the map `socks`: on whose behalf a socket speaks. */
struct tp_owner {
	__u64 cgroup;
	__u64 until_ns;		/* CLOCK_BOOTTIME; 0: for as long as the socket lives */
	__u32 pid;
	__u32 brief;		/* as in a flow: for what its socket connects to */
	__u8 comm[TP_NAME_SIZE];
	__u32 one_in;		/* lots are still to be drawn, with its SYN */
	__u32 reserved;
};

_Static_assert(sizeof(struct tp_owner) == 48, "tp_owner is 48 bytes");

/* Key of the map `targets`. Which fields are zero, for any, is told by the
 * shape: a bit per field that is present. The value says of how many new
 * connections one is reported in full, the others briefly; 0 and 1: each.
 * Every node along a connection draws the same lot. */
struct tp_target {
	__u8 address[16];
	__u16 port;		/* network order */
	__u8 protocol;
	__u8 reserved;
};

_Static_assert(sizeof(struct tp_target) == 20, "tp_target is 20 bytes");

enum tp_target_shape {
	TP_TARGET_ADDRESS = 1,
	TP_TARGET_PORT = 2,
	TP_TARGET_PROTOCOL = 4,
};

/* Set before load, constant for the verifier, so that what is off costs nothing. */
struct tp_config {
	__u32 tuplehash_offset;	/* of nf_conn.tuplehash; 0: the kernel has no conntrack */
	__u32 client_netns;	/* the namespace that `targets` speaks of; 0: any */
	__u8 filter_netns;	/* only what happens in the namespaces of the map `netns` */
	__u8 follow_targets;	/* the map `targets` is in use */
	__u8 target_shapes;	/* bit N: the map `targets` holds keys of shape N */
	__u8 first_line;	/* capture the first TCP payload of each direction */
	__u8 reserved[4];
};

_Static_assert(sizeof(struct tp_config) == 16, "tp_config is 16 bytes");

#endif
