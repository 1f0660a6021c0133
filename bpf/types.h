/* SPDX-License-Identifier: GPL-2.0-only */
/* The integer types that the contract, the kernel's types and libbpf's headers are written in. */
#ifndef TRACEPROBE_TYPES_H
#define TRACEPROBE_TYPES_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;
typedef _Bool bool;

#define true 1
#define false 0

#endif
