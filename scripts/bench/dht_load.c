/* Asks a DHT node questions, always as many at once, and says what came back and how fast.
 *
 *     dht_load HOST PORT MODE AMOUNT OUTSTANDING PAIRS HASHES SOURCES SEED PING FIND GET ANNOUNCE
 *
 * MODE load: for AMOUNT milliseconds, a random mix by the last four weights. PAIRS of a source and
 * an infohash exist; get_peers and announce_peer are about one of them, and an announce bears the
 * token that the same pair got last.
 * MODE fill: get_peers and announce_peer in turn until AMOUNT announces were answered, each of
 * another pair.
 * MODE echo: no load but the least a server can do, on HOST PORT: what the generator itself can
 * take. It speaks on stdin and stdout as the workers of peers.py do.
 *
 * One thread, one socket. On Linux each question comes from one of SOURCES addresses in 127/8;
 * elsewhere only 127.0.0.1 exists. Questions to a source are answered, so that it is a good contact.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef __linux__
struct mmsghdr {
    struct msghdr msg_hdr;
    unsigned msg_len;
};
#endif

#define MOST 256          /* questions at once: the first byte of the transaction id says which */
#define PATIENCE 1.0      /* seconds for an answer; then it is lost */
#define LATENCIES 1000000 /* microseconds told apart */

enum { PING, FIND, GET, ANNOUNCE, KINDS };
static const char *const NAMES[KINDS] = {"ping", "find_node", "get_peers", "announce_peer"};

struct slot {
    int kind;
    unsigned char turn;
    uint32_t source, hash;
    uint32_t token_source, token_hash;
    int token_size; /* 0: has none */
    unsigned char token[64];
    double sent_at;
};

static struct slot slots[MOST];
static uint32_t latencies[LATENCIES];
static long answered[KINDS], refused, lost, strange, with_values;
static int sock, outstanding;
static uint32_t hashes, sources;
static uint64_t dice;
static unsigned weights[KINDS];
static long pairs, filled, fill_next;
static int filling;
static struct sockaddr_in server;

static double seconds(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t mix(uint64_t x) /* splitmix64 */
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t roll(void)
{
    return mix(dice++);
}

static unsigned char *twenty(unsigned char *out, uint64_t domain, uint64_t number)
{
    uint64_t words[3];
    for (int i = 0; i < 3; i++)
        words[i] = mix(mix(domain) ^ (number * 3 + i));
    memcpy(out, words, 20);
    return out + 20;
}

static unsigned char *text(unsigned char *out, const char *what)
{
    size_t size = strlen(what);
    memcpy(out, what, size);
    return out + size;
}

static struct in_addr home(uint32_t source)
{
    struct in_addr a;
#ifdef __linux__
    a.s_addr = htonl(0x7f400001u + source); /* 127.64.0.1 and on */
#else
    (void)source;
    a.s_addr = htonl(INADDR_LOOPBACK);
#endif
    return a;
}

/* Datagrams wait here for the end of a batch: one system call then sends them all. */
#define BATCH 64
#define CONTROL 64
static struct queued {
    struct sockaddr_in to;
    unsigned char data[512];
    union {
        char space[CONTROL];
        struct cmsghdr align;
    } control;
    struct iovec part;
} queue[BATCH];
static struct mmsghdr heads[BATCH];
static int waiting;

static void flush(void)
{
    int done = 0;
    while (done < waiting) {
#ifdef __linux__
        int sent = sendmmsg(sock, heads + done, waiting - done, 0);
#else
        int sent = sendmsg(sock, &heads[done].msg_hdr, 0) < 0 ? -1 : 1;
#endif
        if (sent > 0) {
            done += sent;
        } else if (errno == EAGAIN || errno == ENOBUFS) {
            struct pollfd p = {sock, POLLOUT, 0};
            poll(&p, 1, 10);
        } else {
            done++; /* refused: like a loss, it will be asked again */
        }
    }
    waiting = 0;
}

static void send_from(const struct sockaddr_in *to, struct in_addr from, void *data, size_t size)
{
    if (waiting == BATCH)
        flush();
    struct queued *q = &queue[waiting];
    struct msghdr *head = &heads[waiting++].msg_hdr;
    q->to = *to;
    memcpy(q->data, data, size);
    q->part.iov_base = q->data;
    q->part.iov_len = size;
    memset(head, 0, sizeof *head);
    head->msg_name = &q->to;
    head->msg_namelen = sizeof q->to;
    head->msg_iov = &q->part;
    head->msg_iovlen = 1;
#ifdef __linux__
    head->msg_control = &q->control;
    head->msg_controllen = CMSG_SPACE(sizeof(struct in_pktinfo));
    memset(&q->control, 0, sizeof q->control);
    struct cmsghdr *c = CMSG_FIRSTHDR(head);
    c->cmsg_level = IPPROTO_IP;
    c->cmsg_type = IP_PKTINFO;
    c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
    ((struct in_pktinfo *)CMSG_DATA(c))->ipi_spec_dst = from;
#else
    (void)from;
#endif
}

static void choose_pair(struct slot *s, long number)
{
    s->hash = number % hashes;
    s->source = (number / hashes + 7 * (long)s->hash) % sources;
}

static void ask(int number)
{
    struct slot *s = &slots[number];
    if (filling) {
        if (s->kind == GET && s->token_size) {
            s->kind = ANNOUNCE;
        } else {
            s->kind = GET;
            choose_pair(s, fill_next++);
        }
    } else {
        unsigned total = 0, at;
        for (int k = 0; k < KINDS; k++)
            total += weights[k];
        at = roll() % total;
        for (s->kind = 0; at >= weights[s->kind]; s->kind++)
            at -= weights[s->kind];
        if (s->kind == ANNOUNCE && !s->token_size)
            s->kind = GET;
        choose_pair(s, roll() % pairs);
        if (s->kind == ANNOUNCE) {
            s->source = s->token_source;
            s->hash = s->token_hash;
        }
    }
    s->turn++;
    unsigned char data[512], *p = data;
    p = text(p, "d1:ad2:id20:");
    p = twenty(p, 1, s->source);
    switch (s->kind) {
    case PING:
        p = text(p, "e1:q4:ping");
        break;
    case FIND:
        p = text(p, "6:target20:");
        p = twenty(p, 2, roll());
        p = text(p, "e1:q9:find_node");
        break;
    case GET:
        p = text(p, "9:info_hash20:");
        p = twenty(p, 3, s->hash);
        p = text(p, "e1:q9:get_peers");
        break;
    default:
        p = text(p, "9:info_hash20:");
        p = twenty(p, 3, s->hash);
        p += sprintf((char *)p, "4:porti%ue5:token%d:", 1024 + s->source % 50000, s->token_size);
        memcpy(p, s->token, s->token_size);
        p += s->token_size;
        p = text(p, "e1:q13:announce_peer");
    }
    p = text(p, "1:t2:");
    *p++ = (unsigned char)number;
    *p++ = s->turn;
    p = text(p, "1:v4:LG\x01\x01" "1:y1:qe");
    s->sent_at = seconds(CLOCK_MONOTONIC);
    send_from(&server, home(s->source), data, p - data);
}

/* Where the value of the transaction id is, and its size; it comes late in every KRPC message. */
static unsigned char *find_tid(unsigned char *data, size_t size, int *tid_size)
{
    unsigned char *at = data, *found = NULL;
    while ((at = memmem(at, data + size - at, "1:t", 3))) {
        found = at;
        at++;
    }
    if (!found)
        return NULL;
    char *end;
    long n = strtol((char *)found + 3, &end, 10);
    if (*end != ':' || n < 0 || n > 20 || (unsigned char *)end + 1 + n > data + size)
        return NULL;
    *tid_size = n;
    return (unsigned char *)end + 1;
}

static void pong(const unsigned char *tid, int tid_size, const struct sockaddr_in *to,
                 struct in_addr here)
{
    unsigned char data[128], *p = data;
    p = text(p, "d1:rd2:id20:");
    p = twenty(p, 1, ntohl(here.s_addr) - 0x7f400001u);
    p += sprintf((char *)p, "5:nodes0:e1:t%d:", tid_size);
    memcpy(p, tid, tid_size);
    p += tid_size;
    p = text(p, "1:y1:re");
    send_from(to, here, data, p - data);
}

static void got(unsigned char *data, size_t size, struct sockaddr_in *from, struct in_addr here)
{
    int tid_size;
    data[size] = 0; /* for strtol */
    unsigned char *tid = size < 20 ? NULL : find_tid(data, size, &tid_size);
    if (!tid) {
        strange++;
        return;
    }
    if (memmem(tid, data + size - tid, "1:y1:q", 6)) {
        pong(tid, tid_size, from, here);
        return;
    }
    struct slot *s = &slots[tid[0]];
    if (tid_size != 2 || tid[0] >= outstanding || tid[1] != s->turn) {
        strange++;
        return;
    }
    if (!memmem(tid, data + size - tid, "1:y1:r", 6)) {
        refused++;
        s->token_size = 0;
    } else {
        unsigned char *key;
        int values = s->kind == GET && memmem(data, size, "6:valuesl", 9) != NULL;
        if ((s->kind == FIND || s->kind == GET) && !values && !memmem(data, size, "5:nodes", 7)) {
            strange++; /* no answer to what was asked */
            return;
        }
        if (s->kind == GET) {
            s->token_size = 0;
            if ((key = memmem(data, size, "5:token", 7))) {
                char *end;
                long n = strtol((char *)key + 7, &end, 10);
                if (*end == ':' && n > 0 && n <= (long)sizeof s->token &&
                    (unsigned char *)end + 1 + n <= data + size) {
                    memcpy(s->token, end + 1, n);
                    s->token_size = n;
                    s->token_source = s->source;
                    s->token_hash = s->hash;
                }
            }
            with_values += values;
        }
        answered[s->kind]++;
        if (filling && s->kind == ANNOUNCE)
            filled++;
        double took = (seconds(CLOCK_MONOTONIC) - s->sent_at) * 1e6;
        latencies[took < LATENCIES - 1 ? (long)took : LATENCIES - 1]++;
    }
    ask(tid[0]);
}

/* Takes all datagrams that are there. */
static void drain(void)
{
    static unsigned char data[BATCH][4096];
    static char controls[BATCH][CONTROL];
    static struct sockaddr_in from[BATCH];
    static struct iovec parts[BATCH];
    static struct mmsghdr in[BATCH];
    int count;
    do {
        for (int i = 0; i < BATCH; i++) {
            struct msghdr *head = &in[i].msg_hdr;
            parts[i].iov_base = data[i];
            parts[i].iov_len = sizeof data[i] - 1;
            head->msg_name = &from[i];
            head->msg_namelen = sizeof from[i];
            head->msg_iov = &parts[i];
            head->msg_iovlen = 1;
            head->msg_control = controls[i];
            head->msg_controllen = CONTROL;
        }
#ifdef __linux__
        count = recvmmsg(sock, in, BATCH, MSG_DONTWAIT, NULL);
#else
        for (count = 0; count < BATCH; count++) {
            ssize_t size = recvmsg(sock, &in[count].msg_hdr, MSG_DONTWAIT);
            if (size < 0)
                break;
            in[count].msg_len = size;
        }
#endif
        for (int i = 0; i < count; i++) {
            struct in_addr here = home(0);
#ifdef __linux__
            struct msghdr *head = &in[i].msg_hdr;
            for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c))
                if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO)
                    here = ((struct in_pktinfo *)CMSG_DATA(c))->ipi_addr;
#endif
            got(data[i], in[i].msg_len, &from[i], here);
        }
        flush();
    } while (count == BATCH);
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static void say(const char *event, int port)
{
    printf("{\"event\": \"%s\", \"port\": %d, \"cpu\": %.6f, \"now\": 0}\n", event, port,
           cpu_seconds());
    fflush(stdout);
}

static int echo(void)
{
    /* A reply as long as a usual one, with all a generator looks for. */
    static unsigned char data[8192], reply[512];
    unsigned char *start = text(reply, "d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes208:");
    memset(start, 'n', 208);
    start = text(start + 208, "5:token8:tttttttte1:t2:");
    for (;;) {
        struct pollfd watched[2] = {{sock, POLLIN, 0}, {0, POLLIN, 0}};
        poll(watched, 2, -1);
        if (watched[1].revents) {
            ssize_t size = read(0, data, sizeof data);
            if (size <= 0) {
                say("stopped", 0);
                return 0;
            }
            for (ssize_t i = 0; i < size; i++)
                if (data[i] == '\n')
                    say("usage", 0);
        }
        for (;;) {
            struct sockaddr_in from;
            socklen_t length = sizeof from;
            ssize_t size = recvfrom(sock, data, sizeof data, MSG_DONTWAIT, (void *)&from, &length);
            if (size < 30)
                break;
            unsigned char *end = start;
            memcpy(end, data + size - 18, 2); /* the transaction id: before `1:v4:....1:y1:qe` */
            end = text(end + 2, "1:y1:re");
            sendto(sock, reply, end - reply, 0, (void *)&from, length);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 14)
        return 2;
    struct sockaddr_in own = {0};
    int one = 1, size = 4 << 20;
    sock = socket(AF_INET, SOCK_DGRAM, 0);
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    server.sin_family = own.sin_family = AF_INET;
    if (inet_pton(AF_INET, argv[1], &server.sin_addr) != 1)
        return 2;
    server.sin_port = htons(atoi(argv[2]));
    if (!strcmp(argv[3], "echo")) {
        socklen_t length = sizeof server;
        if (bind(sock, (void *)&server, sizeof server))
            return 1;
        getsockname(sock, (void *)&server, &length);
        say("ready", ntohs(server.sin_port));
        return echo();
    }
    filling = !strcmp(argv[3], "fill");
    long amount = atol(argv[4]);
    outstanding = atoi(argv[5]);
    pairs = atol(argv[6]);
    hashes = atoi(argv[7]);
    sources = atoi(argv[8]);
    dice = mix(strtoull(argv[9], NULL, 10));
    unsigned total = 0;
    for (int k = 0; k < KINDS; k++)
        total += weights[k] = atoi(argv[10 + k]);
    if (outstanding < 1 || outstanding > MOST || pairs < 1 || !hashes || !sources || !total)
        return 2;
#ifdef __linux__
    setsockopt(sock, IPPROTO_IP, IP_PKTINFO, &one, sizeof one);
    own.sin_addr.s_addr = htonl(INADDR_ANY); /* a source is chosen for each datagram */
#else
    (void)one;
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
#endif
    if (bind(sock, (void *)&own, sizeof own))
        return 1;
    double began = seconds(CLOCK_MONOTONIC), now = began, checked = began;
    double until = began + (filling ? 60.0 : amount * 1e-3);
    for (int i = 0; i < outstanding; i++)
        ask(i);
    flush();
    while (now < until && (!filling || filled < amount)) {
        struct pollfd watched = {sock, POLLIN, 0};
        poll(&watched, 1, 50);
        drain();
        now = seconds(CLOCK_MONOTONIC);
        if (now - checked > 0.1) {
            checked = now;
            for (int i = 0; i < outstanding; i++)
                if (now - slots[i].sent_at > PATIENCE) {
                    lost++;
                    slots[i].token_size = 0;
                    ask(i);
                }
            flush();
        }
    }
    long all = 0, seen = 0, p50 = -1, p99 = -1;
    for (int k = 0; k < KINDS; k++)
        all += answered[k];
    for (long i = 0; i < LATENCIES && all; i++) {
        seen += latencies[i];
        if (p50 < 0 && seen * 2 >= all)
            p50 = i;
        if (p99 < 0 && seen * 100 >= all * 99)
            p99 = i;
    }
    printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"answered\": %ld", now - began, cpu_seconds(), all);
    for (int k = 0; k < KINDS; k++)
        printf(", \"%s\": %ld", NAMES[k], answered[k]);
    printf(", \"refused\": %ld, \"lost\": %ld, \"strange\": %ld, \"with_values\": %ld", refused, lost,
           strange, with_values);
    printf(", \"p50\": %.6f, \"p99\": %.6f}\n", p50 * 1e-6, p99 * 1e-6);
    return 0;
}
