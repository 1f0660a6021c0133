// SPDX-License-Identifier: GPL-2.0-only
/*
 * Follows connections through a node: which packets were queued, received and
 * dropped, what conntrack makes of them, what became of the sockets.
 *
 * Only typed tracepoints (tp_btf) are used: they load from 5.8 on (the ring
 * buffer sets that), with kprobes compiled out and under lockdown=integrity.
 *
 * What is followed, and how that is known:
 *  - A TCP socket is followed when a followed process calls connect on it
 *    (CLOSE to SYN_SENT happens in the caller's context). Its source port is
 *    not chosen yet, so the socket is remembered, and its first packet makes
 *    its tuple a followed flow.
 *  - A datagram is queued in its sender's context, so the sender decides.
 *  - A packet of a followed flow is reported wherever it is seen, and the
 *    tuples that conntrack ties to it become followed flows too. So address
 *    translations are followed, any number of them, through every namespace.
 */
#include "types.h"
#include "events.h"
#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "GPL";

const volatile struct tp_config config;

/* Where events go. Its size, like that of the other maps, is set before load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

/* Events for which the ring had no room. Only we add, only user space reads. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* Followed processes, by thread group or by thread: flags are enum tp_pid_flags.
 * User space inserts those it is told of, the fork program their children; the
 * exit program deletes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} pids SEC(".maps");

/* Followed sockets and who speaks through them. Inserted at connect (and for a
 * datagram that waits for its neighbour), expired when the socket closes, and
 * deleted when it connects again; the oldest give way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct tp_owner);
} socks SEC(".maps");

/* Followed flows. Inserted with a flow's first packet, and not deleted at its
 * end: what comes late (a retransmission, a reset) belongs to it too. A SYN of
 * another connection with the same ports deletes it; the oldest give way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tp_flow_key);
	__type(value, struct tp_flow);
} flows SEC(".maps");

/* New connections to these are followed, whoever makes them. Filled by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct tp_target);
	__type(value, __u32);
} targets SEC(".maps");

/* Where to look at all, if config.filter_netns. Filled by user space. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u32);
} netns SEC(".maps");

/*
 * An event in the making, and how far its packet has been read. Not on the
 * stack: there the verifier follows every value it may hold along every path,
 * and a million instructions do not suffice; and half a kilobyte would not fit.
 */
struct draft {
	struct tp_event e;
	__u8 payload[TP_PAYLOAD_DNS];	/* follows e, so that both go out as one record */
	__u64 network;		/* where the network header is */
	__u64 transport;	/* where the transport header is */
	__u64 limit;		/* where the linear part ends */
	__u32 transport_length;	/* header and payload, by the network header */
	__u32 payload_offset;	/* from the transport header */
	__u8 fragment;		/* a later fragment: no transport header */
	__u8 remembered;	/* its socket is in socks */
	__u8 current_sends;	/* the current process is the one who sends it */
	__u8 speaks;		/* its payload is wanted, whether or not it can be read */
	__u8 begins;		/* a SYN, and not the answer to one */
	__u8 reserved[3];
	__u32 brief;		/* its flow is reported briefly; the client's namespace */
	__u32 begun;		/* its sequence number, when it begins a connection */
};

/*
 * One draft per nesting level: a program in process context may be interrupted
 * by one in softirq, that by one in hardirq. They nest strictly, so a counter
 * tells whose turn it is.
 */
#define DRAFTS 4

struct drafts {
	__u64 depth;
	struct draft at[DRAFTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct drafts);
} drafts SEC(".maps");

/*
 * Numbers are read from a tracepoint's arguments directly, but pointers through
 * BPF_CORE_READ: for each pointer loaded from a trusted one the verifier of 6.3
 * and later searches all of the kernel's BTF by name, several times, which was
 * half the time it took to load the programs. A probe read costs a packet a few
 * nanoseconds.
 */

/* Where the network header says that the next one is. */
struct upper {
	__u64 at;
	__u32 length;
	__u32 fragment;
};

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym __weak;

static __always_inline void count_lost(void)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&lost, &zero);

	if (count)
		(*count)++;
}

/* Takes a clean draft; null, and one event lost, when all are taken. */
static __always_inline struct draft *enter(void)
{
	__u32 zero = 0;
	struct drafts *all = bpf_map_lookup_elem(&drafts, &zero);
	struct draft *d;

	if (!all)
		return 0;
	if (all->depth >= DRAFTS) {
		count_lost();
		return 0;
	}
	d = &all->at[all->depth++ & (DRAFTS - 1)];
	__builtin_memset(&d->e, 0, sizeof(d->e));
	d->payload_offset = 0;
	d->transport_length = 0;
	*(__u64 *)&d->fragment = 0;
	d->brief = 0;
	d->begun = 0;
	return d;
}

static __always_inline int leave(void)
{
	__u32 zero = 0;
	struct drafts *all = bpf_map_lookup_elem(&drafts, &zero);

	if (all)
		all->depth--;
	return 0;
}

/* ---- addresses, tuples, flows ---- */

static __always_inline void map_ipv4(__u8 *to, __be32 from)
{
	*(__u32 *)to = 0;
	*(__u32 *)(to + 4) = 0;
	*(__u32 *)(to + 8) = bpf_htonl(0xffff);
	*(__u32 *)(to + 12) = from;
}

/* By words of four: conntrack's second address is not aligned to eight. */
static __always_inline void copy_address(__u8 *to, const __u8 *from)
{
	for (int i = 0; i < 16; i += 4)
		*(__u32 *)(to + i) = *(const __u32 *)(from + i);
}

/* Whether the source is the key's low end. Any order will do, if it is one. */
static __always_inline bool source_is_low(const struct tp_tuple *t)
{
	__u64 s0 = *(const __u64 *)t->source, d0 = *(const __u64 *)t->destination;
	__u64 s1 = *(const __u64 *)(t->source + 8), d1 = *(const __u64 *)(t->destination + 8);

	if (s0 != d0)
		return s0 < d0;
	if (s1 != d1)
		return s1 < d1;
	return t->source_port <= t->destination_port;
}

/*
 * Which end is the low one is noted in the tuple and read back from there: so
 * the verifier forgets it, and need not follow both cases through all that
 * comes after.
 */
static __always_inline void fill_key(struct tp_flow_key *key, struct tp_tuple *t)
{
	__u32 turned, straight;
	const __u64 *low, *high;

	t->turned = !source_is_low(t);
	barrier();
	turned = t->turned & 1;
	straight = turned ^ 1;
	low = (const __u64 *)((__u8 *)t + turned * 16);
	high = (const __u64 *)((__u8 *)t + straight * 16);
	((__u64 *)key->low)[0] = low[0];
	((__u64 *)key->low)[1] = low[1];
	((__u64 *)key->high)[0] = high[0];
	((__u64 *)key->high)[1] = high[1];
	key->low_port = *(__u16 *)((__u8 *)t + 32 + turned * 2);
	key->high_port = *(__u16 *)((__u8 *)t + 32 + straight * 2);
	*(__u32 *)&key->protocol = t->protocol;
}

static __noinline struct tp_flow *find_flow(struct tp_tuple *t)
{
	struct tp_flow_key key;

	fill_key(&key, t);
	return bpf_map_lookup_elem(&flows, &key);
}

/* The flow that a packet's tuple belongs to; not that of an earlier connection with the same ports, which is over when another begins. */
static __noinline struct tp_flow *find_current_flow(struct tp_tuple *t, const struct draft *d)
{
	struct tp_flow_key key;
	struct tp_flow *flow;

	fill_key(&key, t);
	flow = bpf_map_lookup_elem(&flows, &key);
	if (!flow || !d->begins || flow->begun == d->begun)
		return flow;
	bpf_map_delete_elem(&flows, &key);
	return 0;
}

static __noinline int add_flow(struct tp_tuple *t, const struct draft *d)
{
	struct tp_flow_key key;
	struct tp_flow flow = {};

	if (find_current_flow(t, d))
		return 0;
	fill_key(&key, t);
	flow.begun = d->begun;
	flow.brief = d->brief;
	bpf_map_update_elem(&flows, &key, &flow, BPF_NOEXIST);
	return 0;
}

/* ---- reading packets ---- */

/* Headers that may stand between IPv6 and the transport: hop-by-hop, routing,
 * fragment, authentication, destination options, mobility. */
static __always_inline bool is_extension(__u8 next)
{
	return next == 0 || next == 43 || next == 44 || next == 51 || next == 60 || next == 135;
}

/* Reads an IPv4 or IPv6 header. 0 when it is neither, or is cut off. */
static __noinline int read_network(__u64 at, __u64 limit, struct tp_tuple *t, struct upper *up)
{
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
		__u8 ext[4];
	} ip;
	__u32 total, length;
	__u8 next;

	if (at + sizeof(ip.v4) > limit || bpf_probe_read_kernel(&ip.v4, sizeof(ip.v4), (void *)at))
		return 0;
	up->fragment = 0;

	if (ip.v4.version_ihl >> 4 == 4) {
		length = (ip.v4.version_ihl & 15) * 4;
		if (length < sizeof(ip.v4))
			return 0;
		map_ipv4(t->source, ip.v4.saddr);
		map_ipv4(t->destination, ip.v4.daddr);
		t->protocol = ip.v4.protocol;
		up->fragment = ip.v4.frag_off & bpf_htons(0x1fff);
		up->at = at + length;
		/* A segmentation offload packet above 64 KiB says 0 here, and so do we. */
		total = bpf_ntohs(ip.v4.tot_len);
		up->length = total > length ? total - length : 0;
		return 1;
	}

	if (ip.v4.version_ihl >> 4 != 6 || at + sizeof(ip.v6) > limit ||
	    bpf_probe_read_kernel(&ip.v6, sizeof(ip.v6), (void *)at))
		return 0;
	copy_address(t->source, ip.v6.saddr);
	copy_address(t->destination, ip.v6.daddr);
	at += sizeof(ip.v6);
	total = bpf_ntohs(ip.v6.payload_len);
	next = ip.v6.nexthdr;

	/* Extension headers, RFC 8200 section 4. Three are more than anybody sends. */
	for (int i = 0; i < 3 && is_extension(next); i++) {
		if (at + sizeof(ip.ext) > limit || bpf_probe_read_kernel(ip.ext, sizeof(ip.ext), (void *)at))
			return 0;
		length = (ip.ext[1] + 1) * 8;
		if (next == 44) {
			length = 8;
			up->fragment = ip.ext[2] | (ip.ext[3] & 0xf8);
		}
		if (next == 51)
			length = (ip.ext[1] + 2) * 4;
		next = ip.ext[0];
		at += length;
		total -= length;
	}
	t->protocol = next;
	up->at = at;
	up->length = (__s32)total > 0 ? total : 0;
	return 1;
}

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

static __always_inline bool is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* The types that quote the packet they complain about: RFC 792, RFC 4443 section 2.1. */
static __always_inline bool quotes(__u8 protocol, __u8 type)
{
	if (protocol == IPPROTO_ICMPV6)
		return type >= 1 && type <= 4;
	return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
}

static __always_inline bool is_echo(__u8 protocol, __u8 type)
{
	return protocol == IPPROTO_ICMP ? type == 0 || type == 8 : type == 128 || type == 129;
}

/* Reads an ICMP header: the id of an echo, or the packet that an error quotes. */
static __noinline int read_icmp(struct draft *d)
{
	struct upper up;
	__u8 head[8];

	if (d->transport + sizeof(head) > d->limit ||
	    bpf_probe_read_kernel(head, sizeof(head), (void *)d->transport))
		return 0;
	d->e.icmp_type = head[0];
	d->e.icmp_code = head[1];
	if (is_echo(d->e.tuple.protocol, head[0])) {
		d->e.tuple.source_port = d->e.tuple.destination_port = *(__u16 *)(head + 4);
		return 1;
	}
	if (!quotes(d->e.tuple.protocol, head[0]) ||
	    !read_network(d->transport + sizeof(head), d->limit, &d->e.quoted, &up))
		return 1;
	if (!up.fragment && has_ports(d->e.quoted.protocol) && up.at + 4 <= d->limit)
		bpf_probe_read_kernel(&d->e.quoted.source_port, 4, (void *)up.at);
	d->e.flags |= TP_HAS_QUOTED;
	return 1;
}

static __always_inline void fill_tuple(struct tp_tuple *t, const struct nf_tuple *nf)
{
	if (nf->l3num == AF_INET) {
		map_ipv4(t->source, *(__be32 *)nf->source);
		map_ipv4(t->destination, *(__be32 *)nf->destination);
	} else {
		copy_address(t->source, nf->source);
		copy_address(t->destination, nf->destination);
	}
	t->source_port = nf->source_port;
	t->destination_port = is_icmp(nf->protonum) ? nf->source_port : nf->destination_port;
	t->protocol = nf->protonum;
}

/* Reads one of conntrack's tuples. A template has none. */
static __noinline int read_conntrack_tuple(__u64 at, struct tp_tuple *t)
{
	struct nf_tuple nf;

	if (bpf_probe_read_kernel(&nf, sizeof(nf), (void *)at) || !nf.protonum)
		return 0;
	fill_tuple(t, &nf);
	return 1;
}

static __always_inline void read_conntrack(struct sk_buff *skb, struct draft *d)
{
	__u64 at;

	if (!config.tuplehash_offset || !bpf_core_field_exists(skb->_nfct))
		return;
	at = skb->_nfct & ~NFCT_INFOMASK;
	if (!at)
		return;
	at += config.tuplehash_offset + NF_TUPLEHASH_TUPLE;
	if (read_conntrack_tuple(at, &d->e.original) &&
	    read_conntrack_tuple(at + NF_TUPLEHASH_SIZE, &d->e.reply))
		d->e.flags |= TP_HAS_CONNTRACK;
}

/* Reads the packet whose network header the draft points at, as far as the filters need. 0 when it is no IP packet. */
static __always_inline int read_packet(struct sk_buff *skb, struct draft *d)
{
	struct upper up;
	__u8 tcp_flags;

	d->limit = (__u64)skb->head + skb->tail;
	if (!read_network(d->network, d->limit, &d->e.tuple, &up))
		return 0;
	d->transport = up.at;
	d->transport_length = up.length;
	if (up.fragment) {
		d->fragment = 1;
	} else if (has_ports(d->e.tuple.protocol)) {
		if (up.at + 4 > d->limit ||
		    bpf_probe_read_kernel(&d->e.tuple.source_port, 4, (void *)up.at))
			return 0;
		if (d->e.tuple.protocol == IPPROTO_TCP && !bpf_probe_read_kernel(&tcp_flags, 1, (void *)(up.at + 13)) &&
		    (tcp_flags & 0x12) == 0x02 && !bpf_probe_read_kernel(&d->begun, 4, (void *)(up.at + 4)))
			d->begins = 1;
	} else if (is_icmp(d->e.tuple.protocol)) {
		read_icmp(d);
	}
	read_conntrack(skb, d);
	return 1;
}

/* Reads the rest of a packet that is going to be reported. */
static __noinline int read_rest(struct draft *d)
{
	struct tcphdr tcp;
	__u32 header = 0;
	__u8 protocol = d->e.tuple.protocol;

	if (d->fragment)
		return 0;
	if (protocol == IPPROTO_TCP) {
		if (d->transport + sizeof(tcp) > d->limit ||
		    bpf_probe_read_kernel(&tcp, sizeof(tcp), (void *)d->transport))
			return 0;
		d->e.tcp_flags = tcp.flags;
		d->e.sequence = bpf_ntohl(tcp.seq);
		d->e.acknowledgment = bpf_ntohl(tcp.ack_seq);
		header = (tcp.doff >> 4) * 4;
	} else if (protocol == IPPROTO_UDP || is_icmp(protocol)) {
		header = 8;
	} else if (protocol == IPPROTO_SCTP) {
		header = 12;
	}
	d->payload_offset = header;
	d->e.payload_length = d->transport_length > header ? d->transport_length - header : 0;
	return 0;
}

/* ---- who is followed ---- */

static __always_inline bool netns_allowed(__u32 inum)
{
	return inum && (!config.filter_netns || bpf_map_lookup_elem(&netns, &inum));
}

/* Whether the current process, or the current thread alone, is followed. */
static __noinline int current_is_followed(void)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 tgid = id >> 32, tid = id;

	/* Threads and groups share one number space. */
	return bpf_map_lookup_elem(&pids, &tgid) || bpf_map_lookup_elem(&pids, &tid);
}

/* Whether a new connection to this is one that user space waits for: 0 when it
 * is not, else of how many one is reported in full. Every question to a resolver
 * is waited for: it tells which connection will follow. */
static __noinline __u32 is_target(const struct tp_tuple *t)
{
	struct tp_target key;
	__u32 *one_in;

	if (t->destination_port == bpf_htons(53))
		return 1;
	for (int shape = 0; shape < 8; shape++) {
		if (!(config.target_shapes & 1 << shape))
			continue;
		__builtin_memset(&key, 0, sizeof(key));
		if (shape & TP_TARGET_ADDRESS)
			copy_address(key.address, t->destination);
		if (shape & TP_TARGET_PORT)
			key.port = t->destination_port;
		if (shape & TP_TARGET_PROTOCOL)
			key.protocol = t->protocol;
		one_in = bpf_map_lookup_elem(&targets, &key);
		if (one_in)
			return *one_in ? *one_in : 1;
	}
	return 0;
}

/*
 * Lots are drawn for each new connection: 0, or the namespace that it comes from
 * when it is to be brief. Drawn from its initial sequence number, which no
 * translation changes, so that its client's node and its server's come to the
 * same; a UDP flow has only its source port for that.
 */
static __noinline __u32 draw(const struct draft *d, __u32 one_in)
{
	__u32 lot = d->e.tuple.source_port;

	if (one_in <= 1)
		return 0;
	if (d->e.tuple.protocol == IPPROTO_TCP)
		bpf_probe_read_kernel(&lot, sizeof(lot), (void *)(d->transport + 4));
	/* Knuth's multiplicative hash: neighbours are far from each other. */
	lot = bpf_ntohl(lot) * 2654435761u;
	return (lot >> 8) % one_in ? d->e.netns : 0;
}

static __always_inline bool is_client(__u32 inum)
{
	return config.follow_targets && (!config.client_netns || inum == config.client_netns);
}

static __always_inline void fill_comm(__u8 *comm, struct task_struct *task)
{
	/* The group leader's: a thread's own name says what it does, not whose it is. */
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	bpf_core_read(comm, TP_NAME_SIZE, &leader->comm);
}

static __noinline int remember_socket(__u64 sk, __u64 until_ns, __u32 one_in)
{
	struct tp_owner owner = {};

	owner.cgroup = bpf_get_current_cgroup_id();
	owner.until_ns = until_ns;
	owner.pid = bpf_get_current_pid_tgid() >> 32;
	owner.one_in = one_in;
	fill_comm(owner.comm, (struct task_struct *)bpf_get_current_task());
	bpf_map_update_elem(&socks, &sk, &owner, BPF_ANY);
	return 0;
}

/* The owner of a socket that has closed is kept for its error, which is reported after, but follows nothing more. */
static __always_inline void forget_socket(__u64 sk)
{
	struct tp_owner *owner = bpf_map_lookup_elem(&socks, &sk);

	if (owner)
		owner->until_ns = 1;
}

/* Puts a remembered socket's owner into the event. 0 when the socket is nobody's we follow. */
static __noinline int fill_owner(struct draft *d, __u64 sk, bool even_closed)
{
	struct tp_owner *owner = bpf_map_lookup_elem(&socks, &sk);

	if (!owner || (!even_closed && owner->until_ns && owner->until_ns < bpf_ktime_get_boot_ns()))
		return 0;
	d->e.pid = owner->pid;
	d->e.cgroup = owner->cgroup;
	__builtin_memcpy(d->e.comm, owner->comm, sizeof(d->e.comm));
	/* The sequence number is chosen after the state that the socket was remembered by. */
	if (owner->one_in && d->transport_length) {
		owner->brief = draw(d, owner->one_in);
		owner->one_in = 0;
	}
	d->brief |= owner->brief;
	d->remembered = 1;
	return 1;
}

static __always_inline void fill_current(struct draft *d)
{
	d->e.pid = bpf_get_current_pid_tgid() >> 32;
	d->e.cgroup = bpf_get_current_cgroup_id();
	fill_comm(d->e.comm, (struct task_struct *)bpf_get_current_task());
}

/* By its tuple, by the packet it quotes, or by what conntrack says of it. */
static __noinline int in_followed_flow(struct draft *d)
{
	struct tp_flow *flow = find_current_flow(d->e.flags & TP_HAS_QUOTED ? &d->e.quoted : &d->e.tuple, d);

	if (!flow && d->e.flags & TP_HAS_CONNTRACK) {
		flow = find_current_flow(&d->e.original, d);
		if (!flow)
			flow = find_current_flow(&d->e.reply, d);
	}
	if (!flow)
		return 0;
	d->brief = flow->brief;
	return 1;
}

/* Makes every tuple that this packet is known by a followed one. */
static __noinline int follow_flow(struct draft *d)
{
	/* Without ports the tuple would stand for all that two hosts say. */
	if (d->e.tuple.source_port | d->e.tuple.destination_port)
		add_flow(&d->e.tuple, d);
	if (d->e.flags & TP_HAS_QUOTED)
		add_flow(&d->e.quoted, d);
	if (d->e.flags & TP_HAS_CONNTRACK) {
		add_flow(&d->e.original, d);
		add_flow(&d->e.reply, d);
	}
	return 0;
}

/*
 * Whether a socket is a process's own and speaks in this namespace: then what
 * it sends is sent in its process's context. A packet that has crossed into
 * another namespace still carries its sender's socket (9c4c325252c5 "skbuff:
 * preserve sock reference when scrubbing the skb"), and what the kernel itself
 * answers has a socket without a file.
 */
static __noinline int speaks_here(struct sock *sk, __u32 inum)
{
	unsigned char state = BPF_CORE_READ(sk, __sk_common.skc_state);

	/* These are smaller than a socket, and have no owner. */
	if (state == TCP_NEW_SYN_RECV || state == TCP_TIME_WAIT)
		return 0;
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum) == inum &&
	       BPF_CORE_READ(sk, sk_socket, file);
}

/* Notes the socket that a packet was sent through, and its owner. */
static __always_inline void read_sender(struct sk_buff *skb, struct draft *d, bool known)
{
	struct sock *sk = BPF_CORE_READ(skb, sk);

	if (!sk)
		return;
	fill_owner(d, (__u64)sk, false);
	/* Most packets end here: of a TCP connection that nobody asked for. */
	if (!known && !d->remembered && d->e.tuple.protocol == IPPROTO_TCP)
		return;
	if (!speaks_here(sk, d->e.netns))
		return;
	d->e.socket = (__u64)sk;
	/* skb_iif is set once a packet has come in somewhere: then it is only passing through. */
	d->current_sends = !d->remembered && !skb->skb_iif && d->e.tuple.protocol != IPPROTO_TCP;
}

/* A new connection, or a question to a resolver, that user space waits for. */
static __noinline int starts_target(struct draft *d)
{
	__u32 one_in;

	if (!is_client(d->e.netns) || d->fragment || !has_ports(d->e.tuple.protocol))
		return 0;
	/* What was going on before is not what is waited for. */
	if (d->e.tuple.protocol == IPPROTO_TCP && !d->begins)
		return 0;
	one_in = is_target(&d->e.tuple);
	if (one_in)
		d->brief = draw(d, one_in);
	return one_in != 0;
}

/* Whether a packet that is leaving starts to be followed because of who sends it. */
static __always_inline bool starts_flow(struct draft *d)
{
	return d->remembered || (d->current_sends && current_is_followed()) || starts_target(d);
}

/*
 * A packet that a rule rejects on its way out (LOCAL_OUT) comes to no device:
 * the first that is seen of its flow is the ICMP error, sent back over loopback
 * while its sender is still in connect or send.
 */
static __noinline int starts_by_error(const struct draft *d, struct net_device *dev)
{
	if (!(d->e.flags & TP_HAS_QUOTED) || BPF_CORE_READ(dev, ifindex) != LOOPBACK_IFINDEX)
		return 0;
	return current_is_followed() || (is_client(d->e.netns) && is_target(&d->e.quoted));
}

/* Names the current process as the sender, unless it only happens to be interrupted. */
static __noinline int fill_sender(struct draft *d)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	if (d->current_sends &&
	    (BPF_CORE_READ(task, nsproxy, net_ns, ns.inum) == d->e.netns || current_is_followed()))
		fill_current(d);
	return 0;
}

/* ---- reporting ---- */

static __always_inline void fill_device(struct tp_event *e, struct net_device *dev)
{
	e->ifindex = BPF_CORE_READ(dev, ifindex);
	bpf_core_read(e->ifname, sizeof(e->ifname), &dev->name);
}

static __always_inline bool is_dns(const struct tp_tuple *t)
{
	return t->source_port == bpf_htons(53) || t->destination_port == bpf_htons(53);
}

/*
 * How much of the payload to keep: whole DNS messages (by the ports before
 * translation too, as a cluster's resolver often listens elsewhere), and what
 * a TCP flow says first in each direction, if asked for.
 */
static __noinline int payload_room(struct draft *d)
{
	struct tp_flow *flow;
	__u32 bit;

	if (!d->e.payload_length || is_icmp(d->e.tuple.protocol))
		return 0;
	if (is_dns(&d->e.tuple) || is_dns(&d->e.original) || is_dns(&d->e.reply))
		return TP_PAYLOAD_DNS;
	if (!config.first_line || d->e.tuple.protocol != IPPROTO_TCP)
		return 0;
	/* Elsewhere than at the client it would tell nothing new. */
	if (d->brief && d->brief != d->e.netns)
		return 0;
	flow = find_flow(&d->e.tuple);
	bit = source_is_low(&d->e.tuple) ? 1 : 2;
	if (!flow || flow->lines_seen & bit)
		return 0;
	flow->lines_seen |= bit;
	return TP_PAYLOAD_LINE;
}

/* Copies the payload, through the fragments where the kernel lets us, else as far as it is linear. */
static __always_inline void copy_payload(struct sk_buff *skb, struct draft *d, bool paged)
{
	__u32 length = payload_room(d);
	__u64 from = d->transport + d->payload_offset;
	struct bpf_dynptr whole;

	d->speaks = length > 0;
	if (length > d->e.payload_length)
		length = d->e.payload_length;
	/* None at all is a length like any other. What the compiler has proved of it, the verifier has to see again. */
	if (paged && from + length > d->limit) {
		/* Offsets count from data, which is never after the network header here. */
		barrier_var(length);
		if (length > TP_PAYLOAD_DNS || bpf_dynptr_from_skb((struct __sk_buff *)skb, 0, &whole) ||
		    bpf_dynptr_read(d->payload, length, &whole, from - (__u64)skb->data, 0))
			return;
		d->e.captured = length;
		return;
	}
	if (from >= d->limit)
		return;
	if (from + length > d->limit)
		length = d->limit - from;
	barrier_var(length);
	if (length > TP_PAYLOAD_DNS || bpf_probe_read_kernel(d->payload, length, (void *)from))
		return;
	d->e.captured = length;
}

/*
 * Whether a packet of a brief flow tells how it went. Only TCP has others. What
 * stands in fragments is not captured before 6.12, but that something was said is told.
 */
static __always_inline bool is_telling(const struct draft *d)
{
	return d->e.tuple.protocol != IPPROTO_TCP || d->e.tcp_flags & 0x07 || d->speaks;
}

/* An id of ours stands in an ICMP tuple's ports; the event has none there. */
static __always_inline void clear_echo_id(struct tp_tuple *t)
{
	if (is_icmp(t->protocol))
		t->source_port = t->destination_port = 0;
}

/*
 * Sends the draft off. By one copy and not by reserving and filling, because a
 * reservation's size must be a constant and the payload's is not.
 */
static __noinline int submit(struct draft *d, enum tp_event_kind kind)
{
	__u32 captured = d->e.captured;

	d->e.boot_ns = bpf_ktime_get_boot_ns();
	d->e.kind = kind;
	if (d->brief)
		d->e.flags |= TP_IS_BRIEF;
	clear_echo_id(&d->e.tuple);
	clear_echo_id(&d->e.original);
	clear_echo_id(&d->e.reply);
	barrier_var(captured);
	if (captured > TP_PAYLOAD_DNS)
		return 0;
	if (bpf_ringbuf_output(&events, &d->e, sizeof(d->e) + captured, 0))
		count_lost();
	return 0;
}

/* ---- packets ---- */

static __always_inline bool is_ip(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_IP) || protocol == bpf_htons(ETH_P_IPV6);
}

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

static __always_inline int packet_queued(struct sk_buff *skb, bool paged)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	__u32 inum = BPF_CORE_READ(dev, nd_net.net, ns.inum);
	struct draft *d;
	bool known;

	if ((!is_ip(skb->protocol) && !is_vlan(skb->protocol)) || !netns_allowed(inum))
		return 0;
	d = enter();
	if (!d)
		return 0;
	d->e.netns = inum;
	d->network = (__u64)skb->head + skb->network_header;
	if (!read_packet(skb, d))
		return leave();
	known = in_followed_flow(d);
	read_sender(skb, d, known);
	if (!known && !starts_flow(d) && !starts_by_error(d, dev))
		return leave();

	follow_flow(d);
	fill_sender(d);
	fill_device(&d->e, dev);
	read_rest(d);
	copy_payload(skb, d, paged);
	if (!d->brief || is_telling(d))
		submit(d, TP_EVENT_PACKET_QUEUED);
	return leave();
}

static __always_inline int packet_received(struct sk_buff *skb, bool paged)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	__u32 inum = BPF_CORE_READ(dev, nd_net.net, ns.inum);
	__be16 protocol = skb->protocol;
	/* The network header's offset is not set yet at this tracepoint, but data points at it. */
	__u64 at = (__u64)skb->data;
	struct draft *d;

	/* A tag that the card did not take off. */
	if (is_vlan(protocol)) {
		if (bpf_probe_read_kernel(&protocol, sizeof(protocol), (void *)(at + 2)))
			return 0;
		at += 4;
	}
	if (!is_ip(protocol) || !netns_allowed(inum))
		return 0;
	d = enter();
	if (!d)
		return 0;
	d->e.netns = inum;
	d->network = at;
	if (!read_packet(skb, d) || !in_followed_flow(d))
		return leave();

	follow_flow(d);
	fill_device(&d->e, dev);
	read_rest(d);
	copy_payload(skb, d, paged);
	if (!d->brief || is_telling(d))
		submit(d, TP_EVENT_PACKET_RECEIVED);
	return leave();
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(net_dev_queue, struct sk_buff *skb)
{
	return packet_queued(skb, false);
}

SEC("tp_btf/net_dev_queue")
int BPF_PROG(net_dev_queue_paged, struct sk_buff *skb)
{
	return packet_queued(skb, true);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(netif_receive_skb, struct sk_buff *skb)
{
	return packet_received(skb, false);
}

SEC("tp_btf/netif_receive_skb")
int BPF_PROG(netif_receive_skb_paged, struct sk_buff *skb)
{
	return packet_received(skb, true);
}

/*
 * A datagram that waits until its neighbour is resolved is queued to the
 * device later, in nobody's context. Here it is still its sender's: remember
 * the socket for as long as resolving may take.
 */
SEC("tp_btf/neigh_event_send_done")
int BPF_PROG(neigh_event_send_done, struct neighbour *neighbour, int rc)
{
	struct sk_buff *skb;
	struct sock *sk;

	if (!rc || !current_is_followed() || !BPF_CORE_READ(neighbour, arp_queue.qlen))
		return 0;
	skb = BPF_CORE_READ(neighbour, arp_queue.prev);
	sk = BPF_CORE_READ(skb, sk);
	if (!sk || BPF_CORE_READ(skb, skb_iif) || !BPF_CORE_READ(sk, sk_socket, file))
		return 0;
	/* A TCP socket is remembered since its connect, and for longer. */
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		remember_socket((__u64)sk, bpf_ktime_get_boot_ns() + 5000000000ull, 0);
	return 0;
}

/*
 * The namespace of a packet that is dropped: its device's; in the output path
 * there may be no device yet, then its socket's, or its route's. What is not a
 * kernel address is no device: UDP keeps notes in that place (dev_scratch).
 */
static __always_inline __u32 netns_of(struct sk_buff *skb)
{
	struct net_device *dev = BPF_CORE_READ(skb, dev);
	struct sock *sk = BPF_CORE_READ(skb, sk);
	struct dst_entry *dst;

	if ((__s64)dev < 0)
		return BPF_CORE_READ(dev, nd_net.net, ns.inum);
	if (sk)
		return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	dst = (struct dst_entry *)(skb->_skb_refdst & ~1ul);
	return BPF_CORE_READ(dst, dev, nd_net.net, ns.inum);
}

/* The reason is not named here: before 5.17 there is none, and no third argument. */
SEC("tp_btf/kfree_skb")
int kfree_skb(unsigned long long *ctx)
{
	struct sk_buff *skb = (struct sk_buff *)ctx[0];
	struct net_device *dev;
	struct draft *d;
	__u32 inum;
	bool known;

	if (!is_ip(skb->protocol) || !skb->network_header)
		return 0;
	inum = netns_of(skb);
	if (!netns_allowed(inum))
		return 0;
	d = enter();
	if (!d)
		return 0;
	d->e.netns = inum;
	d->network = (__u64)skb->head + skb->network_header;
	if (!read_packet(skb, d))
		return leave();
	known = in_followed_flow(d);
	read_sender(skb, d, known);
	/* A packet dropped on its way out may be the first that is seen of its flow. */
	if (!known && (skb->skb_iif || !starts_flow(d)))
		return leave();

	follow_flow(d);
	if (d->current_sends && current_is_followed())
		fill_current(d);
	dev = BPF_CORE_READ(skb, dev);
	if ((__s64)dev < 0)
		fill_device(&d->e, dev);
	if (bpf_core_type_exists(enum skb_drop_reason)) {
		d->e.drop_reason = (__u32)ctx[2];
		d->e.flags |= TP_HAS_DROP_REASON;
	}
	read_rest(d);
	submit(d, TP_EVENT_PACKET_DROPPED);
	return leave();
}

/* ---- sockets ---- */

/* A socket's own tuple: its side is the source. */
static __noinline int read_socket(const struct sock *sk, struct draft *d)
{
	struct tp_tuple *t = &d->e.tuple;
	__u16 family = sk->__sk_common.skc_family;
	__u16 port = bpf_htons(sk->__sk_common.skc_num);

	if (family == AF_INET) {
		map_ipv4(t->source, sk->__sk_common.skc_rcv_saddr);
		map_ipv4(t->destination, sk->__sk_common.skc_daddr);
	} else if (family == AF_INET6) {
		bpf_core_read(t->source, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(t->destination, 16, &sk->__sk_common.skc_v6_daddr);
	} else {
		return 0;
	}
	/* A socket that closes has given its port back, but not forgotten it (__inet_put_port). */
	if (!port)
		port = BPF_CORE_READ((const struct inet_sock *)sk, inet_sport);
	t->source_port = port;
	t->destination_port = sk->__sk_common.skc_dport;
	t->protocol = sk->sk_protocol;
	d->e.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	d->e.socket = (__u64)sk;
	return 1;
}

/* Whether a socket is followed, and in the draft. */
static __always_inline bool read_followed_socket(const struct sock *sk, struct draft *d)
{
	return read_socket(sk, d) && netns_allowed(d->e.netns) &&
	       (fill_owner(d, (__u64)sk, false) || find_flow(&d->e.tuple));
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, const struct sock *sk, int old_state, int new_state)
{
	__u64 key = (__u64)sk;
	__u32 one_in;
	struct draft *d = enter();

	if (!d)
		return 0;
	if (old_state == TCP_CLOSE && new_state == TCP_SYN_SENT) {
		/* Forget whom an earlier connection of this socket was made for. */
		bpf_map_delete_elem(&socks, &key);
		if (read_socket(sk, d) && netns_allowed(d->e.netns)) {
			if (current_is_followed())
				remember_socket(key, 0, 0);
			else if (is_client(d->e.netns) && (one_in = is_target(&d->e.tuple)))
				remember_socket(key, 0, one_in);
		}
	}
	if (read_followed_socket(sk, d)) {
		d->e.old_state = old_state;
		d->e.new_state = new_state;
		submit(d, TP_EVENT_SOCKET_STATE_CHANGED);
	}
	if (new_state == TCP_CLOSE)
		forget_socket(key);
	return leave();
}

/* Later kernels add the reason, and send null for a socket or a packet that there is not. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(tcp_send_reset, const struct sock *sk, struct sk_buff *skb)
{
	struct draft *d = enter();

	if (!d)
		return 0;
	if (skb) {
		d->e.netns = BPF_CORE_READ(skb, dev, nd_net.net, ns.inum);
		d->network = (__u64)skb->head + skb->network_header;
		if (!netns_allowed(d->e.netns) || !read_packet(skb, d) || !in_followed_flow(d))
			return leave();
		d->e.socket = (__u64)sk;
		read_rest(d);
		submit(d, TP_EVENT_RESET_SENT);
	} else if (sk && read_followed_socket(sk, d)) {
		/* Not an answer but the socket's own wish. The tuple is turned, as if it answered. */
		d->e.quoted = d->e.tuple;
		copy_address(d->e.tuple.source, d->e.quoted.destination);
		copy_address(d->e.tuple.destination, d->e.quoted.source);
		d->e.tuple.source_port = d->e.quoted.destination_port;
		d->e.tuple.destination_port = d->e.quoted.source_port;
		__builtin_memset(&d->e.quoted, 0, sizeof(d->e.quoted));
		submit(d, TP_EVENT_RESET_SENT);
	}
	return leave();
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(tcp_receive_reset, struct sock *sk)
{
	struct draft *d = enter();

	if (!d)
		return 0;
	if (read_followed_socket(sk, d))
		submit(d, TP_EVENT_RESET_RECEIVED);
	return leave();
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit_skb, const struct sock *sk, struct sk_buff *skb)
{
	struct draft *d = enter();

	if (!d)
		return 0;
	if (read_followed_socket(sk, d)) {
		/* struct tcp_skb_cb begins with the segment's sequence number. */
		bpf_core_read(&d->e.sequence, sizeof(d->e.sequence), &skb->cb);
		if (sk->__sk_common.skc_state == TCP_SYN_SENT)
			d->e.tcp_flags = 0x02;
		submit(d, TP_EVENT_SEGMENT_RETRANSMITTED);
	}
	return leave();
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(inet_sk_error_report, const struct sock *sk)
{
	struct draft *d = enter();

	if (!d)
		return 0;
	if (read_followed_socket(sk, d)) {
		if (!d->remembered && sk->__sk_common.skc_state == TCP_CLOSE)
			fill_owner(d, (__u64)sk, true);
		d->e.error = sk->sk_err;
		submit(d, TP_EVENT_SOCKET_ERROR_REPORTED);
	}
	return leave();
}

/* ---- processes ---- */

static __always_inline void report_process(struct task_struct *task, __u32 child, enum tp_event_kind kind)
{
	struct draft *d = enter();

	if (!d)
		return;
	d->e.pid = task->tgid;
	d->e.child = child;
	d->e.cgroup = bpf_get_current_cgroup_id();
	d->e.netns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	fill_comm(d->e.comm, task);
	submit(d, kind);
	leave();
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(sched_process_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 tgid = parent->tgid, tid = parent->pid, new_tgid = child->tgid, value;
	__u32 *flags;

	/* A new thread belongs to its group. */
	if (new_tgid == tgid)
		return 0;
	flags = bpf_map_lookup_elem(&pids, &tgid);
	if (!flags)
		flags = bpf_map_lookup_elem(&pids, &tid);
	if (!flags || !(*flags & TP_PID_FOLLOW_CHILDREN))
		return 0;
	value = *flags;
	bpf_map_update_elem(&pids, &new_tgid, &value, BPF_ANY);
	if (!(value & TP_PID_QUIET))
		report_process(parent, new_tgid, TP_EVENT_PROCESS_FORKED);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(sched_process_exec, struct task_struct *task)
{
	__u32 tgid = task->tgid;
	__u32 *flags = bpf_map_lookup_elem(&pids, &tgid);

	if (flags && !(*flags & TP_PID_QUIET))
		report_process(task, 0, TP_EVENT_PROCESS_EXECUTED);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(sched_process_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid, tid = task->pid, value;
	__u32 *flags = bpf_map_lookup_elem(&pids, &tgid);

	if (!flags) {
		/* Perhaps a thread that was followed by itself. */
		bpf_map_delete_elem(&pids, &tid);
		return 0;
	}
	/* The group ends with its last thread, which need not be the leader. */
	if (BPF_CORE_READ(task, signal, live.counter))
		return 0;
	value = *flags;
	/* Two threads may see it end; one of them gets to say so. */
	if (bpf_map_delete_elem(&pids, &tgid) == 0 && !(value & TP_PID_QUIET))
		report_process(task, 0, TP_EVENT_PROCESS_EXITED);
	return 0;
}
