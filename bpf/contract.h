/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/*
 * The contract between the kernel half and user space: every struct, enum and limit that both see.
 * tools/layoutgen.ts turns the object's BTF into src/tables/layout.gen.ts; nothing else may know an offset.
 *
 * Nouns.  p-sock: the client's socket.  anchor: the daemon's end of it.  i-sock: a pooled connection to one
 * endpoint.  s-sock: the server's end of an i-sock, where the server runs in an enrolled cgroup.
 * slot: the record of one i-sock.  chunk: XLB_CHUNK_SLOTS slots with one word of idle bits.
 * tenant: an enrolled cgroup; i-socks never cross tenants. One with XLB_USERSPACE_TENANT in its number keeps its
 * sockets out of all socket maps: the slow path alone balances it.
 */
#ifndef XLB_CONTRACT_H
#define XLB_CONTRACT_H

#define XLB_CHUNK_SLOTS 8       /* slots that share a word of idle bits */
#define XLB_POOL_CHUNKS 128     /* chunks of one pool: at most 1,024 i-socks per tenant and endpoint */
#define XLB_STASH_BYTES 512     /* requests up to this size can be served again when their server dies */
#define XLB_YOUNG_NS 20000000   /* after an accept the daemon looks each millisecond for twice this time and more */
#define XLB_MAX_HEADERS 16      /* headers and query parameters that all listeners' rules may ask for, in the kernel */
#define XLB_MAX_HEADER_NAME 62  /* bytes of such a name */
#define XLB_MAX_HEAD 8192       /* bytes of a request head that the kernel path parses */
#define XLB_MAX_BODY 262144     /* bytes of a request body that the kernel path relays: fits an i-sock's send buffer */
#define XLB_MAX_HEADER_COUNT 100 /* header fields of a request that the kernel path parses: Envoy's default */
#define XLB_MAX_RESPONSE_HEAD 65536 /* bytes of a response before its body, interim ones included */
#define XLB_PIECE_COST 1024     /* what the kernel spends on each redirected piece beside its bytes, about */
#define XLB_MAX_PIECES 4096     /* sends in which a request body may lie unread at its server */
#define XLB_MAX_LISTS 64        /* lists of endpoints that share the requests of a cluster */
#define XLB_MAX_SCAN 64         /* endpoints that LEAST_REQUEST with FULL_SCAN looks at */
#define XLB_WEIGHED 16          /* endpoints that LEAST_REQUEST weighs; of more as many turns are drawn first */
#define XLB_CURSORS 8           /* of a cluster: its lists beyond as many share them */
#define XLB_MAX_EDIT_NAMES 16   /* header names that the edits of one route may be about, in the kernel */
#define XLB_MAX_EDIT_PIECES 64  /* pieces of which an edited head may be made */
#define XLB_EDIT_ROOMS 64       /* plans that verdicts make at the same moment, on all CPUs */
#define XLB_MAX_HASH_POLICIES 16 /* hash policies of a route that the kernel path asks */
#define XLB_MAX_HOST 255
#define XLB_USERSPACE_TENANT 2147483648 /* a bit in the number of a tenant */
#define XLB_MAX_PATH 2048

/* IPv4 as ::ffff:a.b.c.d, so that one table serves both families. ip in network order, port in host order. */
struct addr_key {
	__u32 ip[4];
	__u16 port;
	__u16 pad;
};

/* ---- configuration: written by sync, read by hooks ---- */

struct listener_entry {
	__u32 id;      /* index into listener_rules and listener_stats */
	__u32 balance; /* index into rules: the clusters of CONNECT_DIRECT */
	__u8 way;      /* enum connect_way */
	__u8 inspected; /* what a connection speaks first decides who serves it: if it is HTTP, the hooks */
	__u16 pad;
};

/* What becomes of a connection to a listener when it is made. */
enum connect_way {
	CONNECT_REQUESTS = 0, /* to the anchor; its requests are balanced each by itself */
	CONNECT_ANCHOR = 1,   /* to the anchor, for the slow path alone */
	CONNECT_LEAVE = 2,    /* where the client wants */
	CONNECT_DIRECT = 3,   /* to an endpoint that is picked now; to the anchor where there is none */
};

/* Bytes of a date in an HTTP head, and where the next one begins. */
#define XLB_DATE_BYTES 29
#define XLB_DATE_STRIDE 32

/* The daemon writes a date each second where the other one lay, then says so: a hook never reads half of one. */
struct clock {
	__u32 current; /* where in `dates` the present one begins */
	__u32 pad;
	__u8 dates[2 * XLB_DATE_STRIDE];
};

/* Written once, before the hooks are attached. */
struct settings {
	struct addr_key anchor4; /* where the daemon listens for clients of IPv4 (also IPv4-mapped) ... */
	struct addr_key anchor6; /* ... and of IPv6; port 0: none, such connections are left alone */
	__u32 receive_limit;     /* bytes queued at a client beyond which a response goes through the daemon */
	__u32 pad;
};

/* The unit of compiled rules: see docs/tables.md for what a word means where. */
struct word {
	__u32 a, b, c, d;
};

/* What a blob's map has as one value: words that are looked up together. */
#define XLB_LINE_WORDS 4

struct line {
	struct word words[XLB_LINE_WORDS];
};

enum {
	HOSTS_STRIP_PORT = 1, /* ignore_port_in_host_matching */
	HOSTS_HEADERS = 2,    /* some rule asks for an ordinary header */
	HOSTS_QUERY = 4,      /* ... for a parameter of the query */
	HOSTS_OWN = 8,        /* requests and answers get headers of the balancer's own: for the slow path */
};

enum {
	RULES_NONE = 0,        /* no virtual host: no route */
	RULES_SLOW = 0xffffffff, /* rules that only the slow path can follow */
};

/*
 * A state of a trie, two words of one line: a, b of the first = the bytes that lead here, as one number; of the second
 * b = the number of bytes that have to follow, with that of the bytes that lead on and of the places for them (its
 * logarithm), and of those that lead to a root. docs/tables.md has the rest.
 */
#define XLB_STEP_SHIFT 16
#define XLB_STEP_MASK 15
#define XLB_FIRST_SHIFT 20
#define XLB_PLACES_SHIFT 24
/* Of more places than 2^this a row of numbers says how the bytes are scattered, of fewer one number. */
#define XLB_ONE_SCATTER 4
/* ... so many places for each number: 2^this. */
#define XLB_SCATTER_SHIFT 2
/* So many bytes that have to follow lie in the state itself; and where nothing leads on from it. */
#define XLB_NEAR_BYTES 4
#define XLB_NEAR_BYTES_LAST 8

/* What an automaton has instead of the place of a row where whatever follows leads nowhere else. */
enum {
	SETTLED = 0xffff,         /* of one expression: the text is taken */
	SETTLED_RUN = 0x80000000, /* of a union: with the first entry of the run for all such texts */
};

/* What an entry of a run is; none of the first two: a candidate. */
enum entry_flag {
	ENTRY_SWITCH = 0x40000000, /* the run that it leads to comes first, if any */
	ENTRY_LINK = 0x20000000,   /* the run goes on elsewhere */
	ENTRY_LAST = 0x10000000,   /* nothing follows */
	ENTRY_FINAL = 0x08000000,  /* where the candidate is found, no earlier one can be */
};

/* In `d` of an entry: how many words further the link lies, if a better route may be there; below it, conditions. */
#define XLB_SKIP_SHIFT 8
#define XLB_SKIP_MASK 524287

enum switch_kind {
	SWITCH_FORWARD = 0,  /* a trie, from the first byte of the text */
	SWITCH_BACKWARD = 1, /* ... from the last */
	SWITCH_UNION = 2,    /* a table of many regular expressions */
};

enum condition_kind {
	CONDITION_PRESENT = 0,
	CONDITION_EXACT = 1,
	CONDITION_PREFIX = 2,
	CONDITION_SUFFIX = 3,
	CONDITION_CONTAINS = 4,
	CONDITION_REGEX = 5, /* full match by a table over bytes */
};

enum {
	CONDITION_INVERT = 1,
	CONDITION_IGNORE_CASE = 2,
	CONDITION_MISSING_AS_EMPTY = 4,
};

/* Indexes of pseudo headers in a condition; ordinary headers follow from HEADER_FIRST. */
enum {
	HEADER_METHOD = 0,
	HEADER_AUTHORITY = 1,
	HEADER_PATH = 2,
	HEADER_PATH_ALONE = 3, /* without its query */
	HEADER_FIRST = 4,
};

struct header_name {
	__u8 index; /* HEADER_FIRST.. */
	__u8 length;
	char name[XLB_MAX_HEADER_NAME];
};

enum policy {
	POLICY_ROUND_ROBIN = 0,
	POLICY_LEAST_REQUEST = 1,
	POLICY_RANDOM = 2,
	POLICY_FULL_SCAN = 3, /* LEAST_REQUEST that looks at all */
	POLICY_SLOW = 4,      /* balanced in a way that only the slow path can follow */
	POLICY_LEAST_WEIGHED = 5, /* LEAST_REQUEST with weights: by chance, as Envoy's deadlines come to */
	POLICY_RING_HASH = 6,
	POLICY_MAGLEV = 7,
};

/* The bound of a cluster's requests. */
struct cluster_limit {
	__u32 breaker;      /* the row of breaker_states, which a cluster's subsets share; 0: there is no bound */
	__u32 max_requests;
};

enum {
	ACTION_BY_HASH = 0x80000000, /* beside the number of clusters: the request's hash picks one of them */
	ACTION_ANSWER = 0x40000000,  /* no cluster: the route answers by itself */
	DIRECT_BY_SOURCE = 1, /* of connections: the client's address is the hash by which an endpoint is picked */
};

/* What a hash policy hashes. */
enum hash_kind {
	HASH_HEADER = 0,
	HASH_COOKIE = 1,
	HASH_SOURCE_IP = 2,
	HASH_QUERY = 3,
};

enum {
	HASH_TERMINAL = 1, /* the last to be asked, if there is a hash */
	HASH_GIVES = 2,    /* a client without the cookie gets one */
	HASH_LAST = 4,     /* of its route */
};

/* What becomes of the lines of a name that a route's edits are about. */
enum {
	EDIT_DROP = 256,  /* they go; beside the name's length, in one number */
	EDIT_HOST = 512,  /* the name is Host, and gets another value */
};

/* What stands behind the text of a line that edits add, or of a piece of an answer: mostly a part of the request. */
enum {
	EDIT_TEXT = 0,
	EDIT_TARGET = 1,
	EDIT_AUTHORITY = 2,
	EDIT_METHOD = 3,
	/* in answers only */
	EDIT_PATH = 4,           /* the target without its query */
	EDIT_QUERY = 5,          /* with its question mark */
	EDIT_HOST_ALONE = 6,     /* the authority without its port */
	EDIT_HOST_UNLESS_80 = 7, /* ... without it if it is 80 */
	EDIT_DATE = 8,           /* now, as in RFC 9110 section 5.6.7 */
};

/* ---- pools: written by pool/, read by hooks ---- */

struct pool_key {
	__u32 tenant;
	__u32 endpoint;
};

struct pool {
	__u32 n_chunks;
	__u32 chunk[XLB_POOL_CHUNKS];
};

/* An i-sock's connection as its server sees it: tells sockops which accepted sockets are ours. */
struct peer_key {
	struct addr_key client; /* the i-sock's own address */
	struct addr_key server;
};

enum slot_kind {
	SLOT_NEW = 0,   /* being connected: the server's end may still show up */
	SLOT_SAME_HOST = 1,
	SLOT_CROSS_HOST = 2,
};

/* Bits of slot.flags, set atomically by whoever sees the event. */
enum slot_flag {
	SLOT_REQUEST_DONE = 1,   /* all bytes of the request went to the server */
	SLOT_RESPONSE_DONE = 2,  /* all bytes of the response were handed on */
	SLOT_ABORTED = 4,        /* the client has gone: the i-sock is spoiled */
	SLOT_FAULT = 8,          /* the response cannot be followed: spoiled, the daemon answers or resets */
	SLOT_BYPASS = 16,        /* the rest of the response goes through the daemon, which has back-pressure */
	SLOT_RETIRE = 32,        /* not to be used again: the server closes it, or it is read until close */
	SLOT_CLOSE_CLIENT = 64,  /* after this response the client's connection ends */
	SLOT_UNTIL_CLOSE = 128,  /* the response ends where the connection ends */
	SLOT_HEAD = 256,         /* a HEAD request: its response has no body */
	SLOT_STARTED = 512,      /* at least one byte of the response was handed on */
	SLOT_STASHED = 1024,     /* the request lies whole in the stash and may be repeated */
	SLOT_YOUNG = 2048,       /* the connection is so new that the daemon is still looking for others */
	SLOT_STRAY = 4096,       /* its server said something that nobody had asked: not to be used again */
	SLOT_HAND_OVER = 8192,   /* across hosts: the answer is handed over as messages, under its client's lock */
	SLOT_ANSWERED = 16384,   /* ... and all of the answer lies with the i-sock's worker, or is handed over already */
	SLOT_UPLOAD = 32768,     /* the request has a body */
	SLOT_EDITS = 65536,      /* the head of the answer is edited */
	SLOT_LIMITED = 131072,   /* its cluster's requests are counted, by slot.breaker */
};

#define SLOT_SPOILED (SLOT_ABORTED | SLOT_FAULT | SLOT_RETIRE | SLOT_STRAY) /* not for another request */

/* Where a message parser stands. One struct for any split of the bytes. */
struct framing {
	__u64 remaining; /* body or chunk bytes still to come */
	__u32 state;     /* enum framing_state */
	__u32 hash;      /* of the header name being read */
	__u16 status;
	__u8 count;      /* digits, or bytes of a fixed text, seen so far */
	__u8 flags;      /* enum framing_flag */
	__u32 pad;
};

/* In the order in which a response passes through them. */
enum framing_state {
	FRAME_VERSION = 0,
	FRAME_STATUS,
	FRAME_REASON,
	FRAME_LINE_LF,
	FRAME_LINE,
	FRAME_NAME,
	FRAME_SKIP_LINE,
	FRAME_LENGTH,
	FRAME_CONNECTION,
	FRAME_CODING,
	FRAME_HEAD_LF,
	/* from here on the head is complete */
	FRAME_BODY,
	FRAME_CHUNK_SIZE,
	FRAME_CHUNK_EXTENSION,
	FRAME_CHUNK_SIZE_LF,
	FRAME_CHUNK_DATA,
	FRAME_CHUNK_CR,
	FRAME_CHUNK_LF,
	FRAME_TRAILER_LINE,
	FRAME_TRAILER_SKIP,
	FRAME_TRAILER_LF,
	FRAME_UNTIL_CLOSE,
	FRAME_DONE,
	FRAME_FAULT,
};

enum framing_flag {
	FRAME_HAS_LENGTH = 1,
	FRAME_CHUNKED = 2,
	FRAME_CLOSE = 4,      /* Connection: close */
	FRAME_KEEP_ALIVE = 8, /* Connection: keep-alive */
	FRAME_HTTP10 = 16,
	FRAME_SEEN_VALUE = 32, /* the header value being read has begun */
	FRAME_HAS_HEAD = 64,   /* the final head is complete, and says what follows it */
};

/*
 * Client and server mostly run on different CPUs, and each cache line that both write costs either of them a tenth of a
 * microsecond. So the first line is all that a small response needs, the others are the request hook's.
 */
struct slot {
	__u32 flags;        /* enum slot_flag; with the generation one aligned word, so that both can be */
	__u32 generation;   /* compared and changed at once. Counts the requests this i-sock has served. */
	__u64 owner;        /* cookie of the p-sock in whose service the i-sock stands; 0: none */
	__u64 started_ns;   /* when the request was taken */
	__u64 response_bytes;
	struct framing frame;
	__u32 sent;         /* request bytes that the i-sock took of this request */
	__u32 endpoint;
	/* ---- second line ---- */
	__u64 p_sk;         /* the owner's address, to look at its receive queue; may be stale, never trusted */
	__u64 target_sk;    /* the socket that requests are put into, i-sock or s-sock; may be stale, never trusted */
	__u64 relayed;      /* request bytes that the i-sock had taken before this request */
	__u64 due_ns;       /* when the request was complete: its route's timeout runs from here; 0: not yet */
	__u64 bypass_base;  /* what the client had received by TCP when SLOT_BYPASS was set */
	__u32 piece;        /* running mean of the sizes in which the answer is handed on, in sixteenths of a byte */
	__u32 kind;
	__u32 next_sequence; /* of TCP, across hosts: where what the hook has not seen yet begins */
	__u32 timeout_ms;
	__u32 route;
	__u32 cluster;
	/* ---- third line ---- */
	__u64 handed_over;  /* SLOT_HAND_OVER: of response_bytes, those that have left the i-sock's worker */
	struct addr_key client; /* the key of its connection */
	__u32 listener;
	__u32 stash_length;
	__u32 tenant;
	__u32 edit_rules;   /* SLOT_EDITS: the virtual host's blob, and the place of the edits in it */
	__u32 edit_program;
	__u32 edit_at;      /* ... across hosts: at which of response_bytes (its lower half) that head begins, */
	__u32 edit_head;    /* and its bytes; 0: it was not seen yet, or is edited */
	__u32 breaker;      /* SLOT_LIMITED: the row of breaker_states */
	__u32 pad;
};

/* A request kept whole, so that it can be served again when its server dies without an answer. */
struct stash {
	__u8 bytes[XLB_STASH_BYTES];
};

/* ---- connections: written by hooks, read by the daemon ---- */

struct conn {
	__u64 cookie;
	__u64 cgroup;
	struct addr_key destination; /* what the client asked for */
	__u32 listener;
	__u32 tenant;
	__u32 wait_slot;   /* when the slow path was entered: an answer still due by this slot ... */
	__u32 wait_generation; /* ... in this generation; 0: none */
	__u32 reason;      /* why the slow path was last entered */
	__u8 closed;       /* the client has closed both ways */
	__u8 half_closed;
	__u8 broken;       /* what comes now is the rest of a request whose server has gone: no request */
	__u8 spoke;        /* the kernel path has taken a request of it */
	__u32 next_sequence; /* of TCP: where what its client's hook has not seen yet begins */
};

/* A request head, as offsets into the bytes of one send. */
struct request_head {
	__u64 content_length;
	__u64 hash;           /* of the header name being read */
	__u32 position;
	__u16 state;
	__u16 mark;           /* where the current name or value began */
	__u16 name_length;
	__u16 method_length;
	__u16 target;         /* offset, length with query, length without */
	__u16 target_length;
	__u16 path_length;
	__u16 host;
	__u16 host_length;
	__u16 connection;     /* offset of the value of Connection: close; 0: none */
	__u8 name;            /* enum known_name of the header being read */
	__u8 flags;           /* enum request_flag */
	__u8 index;           /* header index of the header being read, 0: nobody asks for it */
	__u8 method;          /* enum method */
	__u16 headers;        /* how many there were */
};

/* Kept with the p-sock itself; only its own hooks see it, under its lock. */
struct p_state {
	__u64 cookie;
	__u64 cgroup;
	__u64 born_ns;        /* when it reached the anchor */
	__u64 body_remaining; /* request body bytes that still belong to the slot's request */
	__u64 due_by_tcp;     /* bytes_received when all that the daemon handed on has come */
	struct addr_key key;  /* its entry in conns */
	struct addr_key destination;
	__u32 listener;
	__u32 tenant;
	__u32 slot;           /* the last i-sock used, and the generation in which it was */
	__u32 generation;     /* 0: none */
	__u8 mode;            /* enum p_mode */
	__u8 pipeliner;       /* sent a request before the last answer was complete: slow path for good */
	__u8 cut;             /* a send was cut: what follows in it belongs to the anchor */
	__u8 based;           /* base_sequence is set */
	__u8 inspected;       /* the listener's */
	__u8 way;             /* enum connect_way */
	__u16 pad;
	__u32 endpoint;       /* CONNECT_DIRECT: where it went; 0: to the anchor */
	__u32 base_sequence;  /* write_seq before the first byte: how many bytes took TCP since then */
	__u32 to_anchor;      /* bytes that were redirected to the anchor */
	__u32 pieces;         /* sends that the request's body took so far */
	struct request_head request; /* scratch of the request hook */
	struct {
		__u16 offset;
		__u16 length;     /* of the value; offset 0: the header is absent */
	} header[XLB_MAX_HEADERS]; /* scratch of the request hook */
};

enum piece_kind {
	PIECE_OLD = 0,  /* bytes of the request as it came */
	PIECE_TEXT = 1, /* bytes of the virtual host's blob */
	PIECE_DATE = 2, /* bytes of struct clock */
};

struct piece {
	__u32 from;
	__u16 length;
	__u16 kind; /* enum piece_kind */
};

/* How an edited head is made, or the answer of a route that answers by itself: scratch of the hook that sends it. */
struct edit_plan {
	__u64 base;     /* where the old head's first byte lies in the kernel's memory */
	__u32 vhost;    /* whose blob has the texts */
	__u32 count;    /* of the pieces */
	__u32 length;   /* of what they make */
	__u32 replaced; /* bytes of the message for which that stands */
	__u32 kept;     /* up to where pieces tell what becomes of the old head */
	__u32 present;  /* which of the edits' names the old head has, a bit for each */
	__u32 line;     /* where the line begins that is looked at, where its value may begin (0: still in its name), */
	__u32 value;
	__u32 at;       /* and how far it was looked at; later: how much of the new head was written, */
	__u32 next;     /* from which piece on it was not, */
	__u32 left;     /* what is left of the one before that, of how many bytes, and where they lie */
	__u32 whole;
	__u64 source;
	__u8 last[XLB_MAX_EDIT_NAMES]; /* by name, the piece behind its last line so far, plus one */
	struct piece pieces[XLB_MAX_EDIT_PIECES];
};

/* The same for verdicts, which have no storage with their sockets: somebody's for the time of one run. */
struct edit_room {
	struct edit_plan plan;
	__u32 taken;
	__u32 pad;
};

enum p_mode {
	P_KERNEL = 0,
	P_SLOW = 1,
	P_BROKEN = 2, /* the rest of a request is lost, and with it where the next one would begin */
};

/* The daemon's word that the slow path has nothing left to do on a connection. */
struct slow_done {
	__u64 read;    /* bytes taken from the anchor: the kernel path may resume when it is all that was passed */
	__u64 written; /* bytes the anchor wrote */
	__u64 cookie;  /* whose */
};

/* ---- events: a ring buffer from hooks to the daemon ---- */

enum event_type {
	EVENT_WAKE = 1,     /* bytes wait on a connection that may not have been accepted yet */
	EVENT_TENANT = 2,   /* a connection from a cgroup that has no pools yet */
	EVENT_GROW = 3,     /* a pool ran low; slot is unused, tenant and endpoint tell which */
	EVENT_RETIRE = 4,   /* the slot's i-sock is to be closed */
	EVENT_ABORT = 5,    /* the client went away mid-request: close the slot's i-sock */
	EVENT_FAULT = 6,    /* the slot's response cannot be followed */
	EVENT_BYPASS = 7,   /* the slot's response goes on through the daemon */
	EVENT_CLOSE = 8,    /* the response is complete, its server is about to close, and the client is to be told */
	EVENT_STALE = 9,    /* the slot's server spoke before it could have seen the request */
	EVENT_END = 10,     /* like EVENT_CLOSE, but the server stays: the reactor passes it on if the client does too */
	EVENT_OUTLIER = 11, /* the endpoint has given as many errors in a row as its cluster bears; reason: enum streak */
	EVENT_UNREACHED = 12, /* a client's own connection to the endpoint was not made; reason: the errno */
};

/* Of what an endpoint has given too many in a row, a bit each: Envoy's consecutive_5xx, consecutive_gateway_failure. */
enum streak {
	STREAK_ERRORS = 1,
	STREAK_GATEWAY_ERRORS = 2,
};

struct event {
	__u32 type;
	__u32 slot;
	__u32 generation;
	__u32 tenant;
	__u32 endpoint;
	__u32 reason;
	__u64 cookie;
	__u64 cgroup;
	struct addr_key client;
	__u32 pad;
};

/* ---- why a hook did what it did: a metric, a word in the CLI and a row in docs/reasons.md ---- */

enum reason {
	REASON_SAME_HOST = 0,
	REASON_CROSS_HOST = 1,
	/* slow path, by what the client sent */
	REASON_PARTIAL_HEAD = 2,
	REASON_HEAD_TOO_LARGE = 3,
	REASON_BAD_REQUEST = 4,
	REASON_NOT_HTTP11 = 5,
	REASON_METHOD = 6,
	REASON_TARGET_FORM = 7,
	REASON_UPGRADE = 8,
	REASON_EXPECT = 9,
	REASON_CONNECTION_HEADER = 10,
	REASON_TRANSFER_ENCODING = 11,
	REASON_BODY_TOO_LARGE = 12,
	REASON_BODY_SPLIT = 13,
	REASON_PIPELINED = 14,
	REASON_PIPELINER = 15,
	REASON_SLOW_BUSY = 16,
	REASON_MULTI_VALUED_HEADER = 17,
	/* slow path, by the rules */
	REASON_NO_VIRTUAL_HOST = 18,
	REASON_NO_ROUTE = 19,
	REASON_RULES = 20,
	REASON_NO_CLUSTER = 21,
	REASON_NO_ENDPOINT = 22,
	/* slow path, by the state of things */
	REASON_TENANT = 23,
	REASON_POOL_EMPTY = 24,
	REASON_REDIRECT_FAILED = 25,
	REASON_NO_MEMORY = 26,
	/* bytes that are not a request of their own */
	REASON_REQUEST_BODY = 27,
	REASON_SLOW_BYTES = 28,
	/* responses */
	REASON_RESPONSE = 29,
	REASON_RESPONSE_BYPASS = 30,
	REASON_RESPONSE_FAULT = 31,
	REASON_RESPONSE_ORPHAN = 32,
	REASON_RESPONSE_UNASKED = 33,
	/* connections that are left alone */
	REASON_TAG_FAILED = 34,
	REASON_SOCKMAP_REFUSED = 35,
	/* later ones */
	REASON_REQUEST_BROKEN = 36,
	REASON_RESPONSE_STALE = 37,
	REASON_ROUTE = 38,
	REASON_USERSPACE_TENANT = 39,
	REASON_BALANCING = 40, /* slow path, by the rules: the kernel cannot follow the cluster's balancing */
	/* connections that are balanced as a whole */
	REASON_DIRECT = 41,
	REASON_DIRECT_DECLINED = 42,
	REASON_LEFT_ALONE = 43,
	/* slow path, by the rules */
	REASON_EDITS = 44,
	REASON_HASH_POLICY = 45,
	/* no server was asked */
	REASON_ANSWERED = 46,
	/* slow path, by the rules */
	REASON_OWN_HEADERS = 47,
	/* responses */
	REASON_RESPONSE_HANDED_OVER = 48,
	REASON_RESPONSE_EDITED_LATE = 49,
	/* slow path, by the rules */
	REASON_MAX_REQUESTS = 50,
	REASON_COUNT = 51,
};

/* ---- counters, one row per CPU ---- */

/* Requests are those of the same host and those across hosts. */
struct endpoint_stats {
	__u64 responses_1xx;
	__u64 responses_2xx;
	__u64 responses_3xx;
	__u64 responses_4xx;
	__u64 responses_5xx;
	__u64 request_bytes;
	__u64 response_bytes;
	__u64 same_host;
	__u64 cross_host;
	__u64 time_ns; /* sum over responses, from the request taken to the response complete */
	__u64 direct;  /* connections that were made to it by tcp_proxy */
};

struct route_stats {
	__u64 requests;
};

struct listener_stats {
	__u64 connections;
	__u64 direct; /* of them those that were made to an endpoint */
	__u64 same_host;
	__u64 cross_host;
	__u64 slow;
	__u64 answered; /* by the rules themselves, in the hook */
};

struct reason_stats {
	__u64 count;
};

/* Shared by all CPUs, because a choice depends on it. A cache line each: two endpoints must not fight over one. */
struct endpoint_state {
	__u64 active;
	__u64 asked_ns; /* when a hook last asked for more i-socks */
	__u64 missed;   /* requests that found no i-sock since the daemon last looked */
	__u32 watched;  /* its cluster has outlier detection */
	__u32 errors;   /* 5xx in a row, by both paths, and those of a gateway among them */
	__u32 gateway_errors;
	__u32 most_errors; /* how many are to be told of; 0: never */
	__u32 most_gateway_errors;
	__u32 pad[5];
};

struct cluster_state {
	__u64 cursor[XLB_CURSORS];
};

/* Requests of a cluster in service, by both paths, where it has a bound. A cache line each. */
struct breaker_state {
	__u64 active;
	__u64 pad[7];
};

#endif
