/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The few kernel types that the programs read, written down by hand: only the
 * members they touch. Names are the kernel's; offsets are not, they come from
 * the running kernel's BTF when the object is loaded (CO-RE). So the object
 * depends on no kernel's headers and on no build machine's BTF.
 *
 * What differs between kernels is told here, in one place, each with its commit.
 */
#ifndef TRACEPROBE_KERNEL_H
#define TRACEPROBE_KERNEL_H

/* Numbers of the user API (include/uapi/linux/bpf.h), which never change. */
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86dd
#define ETH_P_8021Q 0x8100
#define ETH_P_8021AD 0x88a8

/* Of every namespace (include/net/net_namespace.h). */
#define LOOPBACK_IFINDEX 1

#define AF_INET 2
#define AF_INET6 10

#define IPPROTO_ICMP 1
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define IPPROTO_SCTP 132

#define TCP_SYN_SENT 2
#define TCP_TIME_WAIT 6
#define TCP_CLOSE 7
#define TCP_NEW_SYN_RECV 12

/* The bits of _nfct that are not the pointer (include/linux/skbuff.h, NFCT_PTRMASK). */
#define NFCT_INFOMASK 7ul

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	char name[TP_NAME_SIZE];
	int ifindex;
	possible_net_t nd_net;
};

struct in6_addr {
	__u8 s6_addr[16];
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct file;

struct socket {
	struct file *file;
};

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	int sk_err;
	__u16 sk_protocol;
};

struct inet_sock {
	__be16 inet_sport;
};

struct sk_buff {
	struct net_device *dev;
	struct sock *sk;
	unsigned long _nfct;
	unsigned long _skb_refdst;
	__be16 protocol;
	__u16 network_header;
	int skb_iif;
	unsigned int tail;
	unsigned char *head;
	unsigned char *data;
	char cb[48];
};

struct sk_buff_head {
	struct sk_buff *prev;
	__u32 qlen;
};

struct neighbour {
	struct sk_buff_head arp_queue;
};

struct dst_entry {
	struct net_device *dev;
};

struct nsproxy {
	struct net *net_ns;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
};

struct task_struct {
	int pid;
	int tgid;
	char comm[TP_NAME_SIZE];
	struct task_struct *group_leader;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
};

#pragma clang attribute pop

/*
 * Since 5.17 kfree_skb carries why (c504e5c2f964 "net: skb: introduce
 * kfree_skb_reason()"); type and argument came together, so where the type
 * exists the third argument may be read.
 */
enum skb_drop_reason {
	SKB_DROP_REASON_OF_RUNNING_KERNEL,
};

/*
 * A conntrack tuple (include/net/netfilter/nf_conntrack_tuple.h), unchanged
 * since 2.6.20. It is declared without CO-RE because nf_conntrack is a module
 * on most distributions: its types are then not in the kernel's own BTF, and
 * reading modules' BTF needs CAP_SYS_ADMIN. Where the tuples begin inside
 * struct nf_conn does vary, and is found by whoever loads us.
 */
struct nf_tuple {
	__u8 source[16];
	__be16 source_port;	/* or ICMP id */
	__u16 l3num;
	__u8 destination[16];
	__be16 destination_port;	/* or ICMP type, code */
	__u8 protonum;
	__u8 dir;
};

_Static_assert(sizeof(struct nf_tuple) == 40, "nf_conntrack_tuple is 40 bytes");

/* struct nf_conntrack_tuple_hash: two pointers of a list, then the tuple. */
#define NF_TUPLEHASH_TUPLE 16
#define NF_TUPLEHASH_SIZE 56

/* On the wire, where layouts are the RFCs'. */
struct iphdr {
	__u8 version_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	__be32 saddr;
	__be32 daddr;
};

struct ipv6hdr {
	__u8 version_priority;
	__u8 flow_label[3];
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	__u8 saddr[16];
	__u8 daddr[16];
};

struct tcphdr {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
	__u8 doff;	/* upper four bits, in words */
	__u8 flags;
	__be16 window;
	__sum16 check;
	__be16 urg_ptr;
};

/* Newer kernels let a typed tracepoint read through a packet's fragments, by
 * the kfunc bpf_dynptr_from_skb; it is in programs of its own, so that others
 * load where it is missing. */
struct __sk_buff {
	__u32 len;
};

struct bpf_dynptr {
	__u64 opaque[2];
} __attribute__((aligned(8)));

#endif
