/*
 * The load that the relay benchmark puts on a relay, as server and as client. In C and on epoll, since a
 * load generator in Node would be what is measured. Every answer is one line of JSON on standard output.
 *
 *     load serve ADDR ECHO_PORT SOURCE_PORT      TCP and UDP echo; TCP that sends without end
 *     load bulk ADDR PORT CONVERSATIONS SECONDS  receives as fast as it can
 *     load connect ADDR PORT CONCURRENCY SECONDS connect, echo, close, again
 *     load idle ADDR PORT COUNT                  opens conversations and holds them until its input ends
 *     load knock ADDR PORT SECONDS               waits until an echo comes back
 *     load udp ADDR PORT SIZE START              the highest rate of echoes with less than 1 % lost
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define ECHO_SIZE 32
#define WARM_UP_SECONDS 0.4
#define CHUNK (256 * 1024)
#define FDS 65536

/* UDP: conversations, datagrams a system call, and how a rate is searched. */
#define FLOWS 8
#define BATCH 16
#define TRY_SECONDS 0.5
#define DRAIN_SECONDS 0.1
#define LOST 0.01
#define CLOSE_ENOUGH 1.06

static const char ping[ECHO_SIZE] = "is anybody there, and who are yo";
static int poller;
static char chunk[CHUNK], source_chunk[CHUNK];

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* Of this process, with what the kernel does for it on the way: also what it forwards. */
static double cpu(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static struct sockaddr_in address(const char *host, const char *port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  if (inet_pton(AF_INET, host, &a.sin_addr) != 1) die(host);
  return a;
}

static void watch(int fd, uint32_t events, int how) {
  struct epoll_event e = {.events = events, .data.fd = fd};
  if (epoll_ctl(poller, how, fd, &e) < 0) die("epoll_ctl");
}

static int waiting(struct epoll_event *events, double seconds) {
  long ns = seconds <= 0 ? 0 : (long)(seconds * 1e9);
  struct timespec t = {ns / 1000000000, ns % 1000000000};
  int n = epoll_pwait2(poller, events, EVENTS, &t, NULL);
  if (n < 0 && errno != EINTR) die("epoll_pwait2");
  return n < 0 ? 0 : n;
}

static int bound(const struct sockaddr_in *a, int type) {
  int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const void *)a, sizeof *a) < 0) die("bind");
  return fd;
}

/* Never waits; where there is no port or descriptor left it answers -1. */
static int calling(const struct sockaddr_in *a, int type) {
  int fd = socket(AF_INET, type | SOCK_NONBLOCK, 0), on = 1;
  if (fd < 0) return -1;
  if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd, (const void *)a, sizeof *a) < 0 && errno != EINPROGRESS) {
    close(fd);
    return -1;
  }
  return fd;
}

static void roomy(int fd) {
  int size = 4 * 1024 * 1024;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

/* Datagrams in batches, for both roles. */
static struct mmsghdr batch[BATCH];
static struct iovec batch_vec[BATCH];
static struct sockaddr_in batch_from[BATCH];
static char batch_data[BATCH][2048];

static void batch_for(size_t size, int with_names) {
  for (int i = 0; i < BATCH; i++) {
    batch_vec[i] = (struct iovec){batch_data[i], size};
    batch[i].msg_hdr = (struct msghdr){
        .msg_iov = &batch_vec[i],
        .msg_iovlen = 1,
        .msg_name = with_names ? &batch_from[i] : NULL,
        .msg_namelen = with_names ? sizeof batch_from[i] : 0,
    };
  }
}

static void echo_datagrams(int fd) {
  for (;;) {
    batch_for(sizeof batch_data[0], 1);
    int n = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);
    if (n <= 0) return;
    for (int i = 0; i < n; i++) batch_vec[i].iov_len = batch[i].msg_len;
    for (int sent = 0; sent < n;) {
      int m = sendmmsg(fd, batch + sent, n - sent, MSG_DONTWAIT);
      if (m <= 0) break;
      sent += m;
    }
    if (n < BATCH) return;
  }
}

static _Noreturn int serve(char **argv) {
  struct sockaddr_in echo = address(argv[0], argv[1]), source = address(argv[0], argv[2]);
  int echo_fd = bound(&echo, SOCK_STREAM), source_fd = bound(&source, SOCK_STREAM);
  int udp_fd = bound(&echo, SOCK_DGRAM);
  static char is_source[FDS];
  if (listen(echo_fd, 4096) < 0 || listen(source_fd, 4096) < 0) die("listen");
  roomy(udp_fd);
  /* The source answers a ping as the echo does, by what it says anyway. */
  for (size_t at = 0; at < sizeof chunk; at += sizeof ping) memcpy(source_chunk + at, ping, sizeof ping);
  watch(echo_fd, EPOLLIN, EPOLL_CTL_ADD);
  watch(source_fd, EPOLLIN, EPOLL_CTL_ADD);
  watch(udp_fd, EPOLLIN, EPOLL_CTL_ADD);
  printf("listening\n");
  for (;;) {
    struct epoll_event events[EVENTS];
    int n = waiting(events, 3600);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      if (fd == udp_fd) {
        echo_datagrams(fd);
      } else if (fd == echo_fd || fd == source_fd) {
        int on = 1, conversation;
        while ((conversation = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
          setsockopt(conversation, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
          is_source[conversation] = fd == source_fd;
          watch(conversation, fd == source_fd ? EPOLLOUT : EPOLLIN, EPOLL_CTL_ADD);
        }
      } else if (is_source[fd]) {
        ssize_t m = send(fd, source_chunk, sizeof source_chunk, MSG_NOSIGNAL);
        if (m < 0 && errno != EAGAIN) close(fd);
      } else {
        ssize_t m = recv(fd, chunk, sizeof chunk, 0);
        if (m > 0) m = send(fd, chunk, m, MSG_NOSIGNAL);
        if (m == 0 || (m < 0 && errno != EAGAIN)) close(fd);
      }
    }
  }
}

static int bulk(char **argv) {
  struct sockaddr_in to = address(argv[0], argv[1]);
  int conversations = atoi(argv[2]), ended = 0;
  double seconds = atof(argv[3]);
  for (int i = 0; i < conversations; i++) {
    int fd = calling(&to, SOCK_STREAM);
    if (fd < 0) die("connect");
    watch(fd, EPOLLIN, EPOLL_CTL_ADD);
  }
  double began = now(), counted_from = began + WARM_UP_SECONDS, until = counted_from + seconds, at;
  double first = 0, last = 0;
  uint64_t all = 0, before = 0;
  while ((at = now()) < until && ended < conversations) {
    if (first == 0 && at >= counted_from) {
      first = at;
      before = all;
    }
    struct epoll_event events[EVENTS];
    int n = waiting(events, 0.01);
    for (int i = 0; i < n; i++) {
      ssize_t m = recv(events[i].data.fd, chunk, sizeof chunk, 0);
      if (m > 0) all += m;
      if (m == 0 || (m < 0 && errno != EAGAIN)) {
        close(events[i].data.fd);
        ended++;
      }
    }
  }
  last = now();
  printf("{\"bytes\":%llu,\"seconds\":%.6f,\"allBytes\":%llu,\"ended\":%d,\"cpuSeconds\":%.6f}\n",
         (unsigned long long)(all - before), last - first, (unsigned long long)all, ended, cpu());
  return 0;
}

/* Conversations that connect, send and wait for the echo; by descriptor. */
static double began_at[FDS];
static char got[FDS];

static int begin(const struct sockaddr_in *to) {
  /* The first packet may be at its target before connect returns. */
  double at = now();
  int fd = calling(to, SOCK_STREAM);
  if (fd < 0) return -1;
  began_at[fd] = at;
  got[fd] = 0;
  watch(fd, EPOLLOUT, EPOLL_CTL_ADD);
  return fd;
}

/* 1: the echo is whole, -1: the conversation failed, 0: neither yet. */
static int step(int fd, uint32_t events) {
  char pong[ECHO_SIZE];
  if (events & EPOLLOUT) {
    if (send(fd, ping, sizeof ping, MSG_NOSIGNAL) != sizeof ping) return -1;
    watch(fd, EPOLLIN, EPOLL_CTL_MOD);
    return 0;
  }
  ssize_t m = recv(fd, pong, sizeof pong - got[fd], 0);
  if (m <= 0 || memcmp(pong, ping + got[fd], m) != 0) return m < 0 && errno == EAGAIN ? 0 : -1;
  got[fd] += m;
  return got[fd] == ECHO_SIZE;
}

static int by_size(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static int connects(char **argv) {
  struct sockaddr_in to = address(argv[0], argv[1]);
  int concurrency = atoi(argv[2]), open = 0;
  double counted_from = now() + WARM_UP_SECONDS, until = counted_from + atof(argv[3]), at;
  size_t count = 0, room = 1 << 16, failed = 0, all = 0;
  float *us = malloc(room * sizeof *us);
  while ((at = now()) < until) {
    while (open < concurrency) {
      if (begin(&to) < 0) {
        failed++;
        break;
      }
      open++;
    }
    struct epoll_event events[EVENTS];
    int n = waiting(events, 0.01);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd, came = step(fd, events[i].events);
      if (came == 0) continue;
      double ended = now();
      if (came < 0) failed++;
      if (came > 0) all++;
      if (came > 0 && ended >= counted_from && ended < until) {
        if (count == room) us = realloc(us, (room *= 2) * sizeof *us);
        us[count++] = (ended - began_at[fd]) * 1e6;
      }
      close(fd);
      open--;
    }
  }
  double used = cpu();
  qsort(us, count, sizeof *us, by_size);
  printf("{\"count\":%zu,\"all\":%zu,\"failed\":%zu,\"perSecond\":%.1f,\"p50Us\":%.1f,\"p99Us\":%.1f,\"cpuSeconds\":%.6f}\n",
         count, all, failed, count / atof(argv[3]), count ? us[count / 2] : -1, count ? us[count * 99 / 100] : -1, used);
  return 0;
}

static int idle(char **argv) {
  struct sockaddr_in to = address(argv[0], argv[1]);
  int wanted = atoi(argv[2]), begun = 0, open = 0, failed = 0;
  double until = now() + 30;
  while (open + failed < wanted && now() < until) {
    while (begun < wanted && begun - open - failed < 64) {
      begun++;
      if (begin(&to) < 0) failed++;
    }
    struct epoll_event events[EVENTS];
    int n = waiting(events, 0.1);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd, came = step(fd, events[i].events);
      if (came > 0) {
        open++;
        epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL);
      } else if (came < 0) {
        failed++;
        close(fd);
      }
    }
  }
  printf("{\"open\":%d,\"failed\":%d}\n", open, wanted - open);
  while (read(0, chunk, sizeof chunk) > 0) continue;
  return 0;
}

static int knock(char **argv) {
  struct sockaddr_in to = address(argv[0], argv[1]);
  double began = now(), until = began + atof(argv[2]);
  while (now() < until) {
    double again = now() + 0.002;
    int fd = begin(&to), came = fd < 0 ? -1 : 0;
    while (came == 0 && now() < until) {
      struct epoll_event events[EVENTS];
      if (waiting(events, 0.1) > 0) came = step(fd, events[0].events);
    }
    if (fd >= 0) close(fd);
    if (came > 0) {
      printf("{\"seconds\":%.6f}\n", now() - began);
      return 0;
    }
    while (now() < again) usleep(200);
  }
  fprintf(stderr, "load: nobody answers at %s:%s\n", argv[0], argv[1]);
  return 1;
}

static int flows[FLOWS];
static size_t datagram_size;

static int arrivals(uint32_t mark) {
  struct epoll_event events[EVENTS];
  int n = waiting(events, 0), count = 0;
  for (int i = 0; i < n; i++) {
    for (;;) {
      batch_for(sizeof batch_data[0], 0);
      int m = recvmmsg(events[i].data.fd, batch, BATCH, MSG_DONTWAIT, NULL);
      for (int k = 0; k < m; k++) count += memcmp(batch_data[k], &mark, sizeof mark) == 0;
      if (m < BATCH) break;
    }
  }
  return count;
}

static int depart(int flow, int many, uint32_t mark) {
  batch_for(datagram_size, 0);
  for (int i = 0; i < many; i++) memcpy(batch_data[i], &mark, sizeof mark);
  int n = sendmmsg(flows[flow], batch, many, MSG_DONTWAIT);
  return n < 0 ? 0 : n;
}

/* Each conversation is there before anything is counted. */
static void introduce(void) {
  for (int flow = 0; flow < FLOWS; flow++) {
    double until = now() + 5;
    int came = 0;
    while (!came && now() < until) {
      depart(flow, 1, ~flow);
      for (double again = now() + 0.05; !came && now() < again;) came = arrivals(~flow);
    }
    if (!came) {
      fprintf(stderr, "load: no datagram came back\n");
      exit(1);
    }
  }
}

/* The share that did not come back; 1 where the rate could not be sent at all. */
static double try_rate(double rate, double *reached) {
  static uint32_t mark = 0;
  mark++;
  double began = now(), until = began + TRY_SECONDS, at;
  long sent = 0, came = 0, due;
  int flow = 0;
  while ((at = now()) < until) {
    due = (long)((at - began) * rate) - sent;
    if (due > 0) {
      sent += depart(flow, due < BATCH ? (int)due : BATCH, mark);
      flow = (flow + 1) % FLOWS;
    }
    came += arrivals(mark);
    if (due <= BATCH) {
      double pause = 1 / rate * BATCH / 2;
      struct epoll_event events[EVENTS];
      waiting(events, pause < 0.0002 ? pause : 0.0002);
    }
  }
  for (double quiet = now() + DRAIN_SECONDS; now() < quiet && came < sent;) {
    int more = arrivals(mark);
    came += more;
    if (more) quiet = now() + DRAIN_SECONDS;
  }
  *reached = came / TRY_SECONDS;
  if (sent < rate * TRY_SECONDS * 0.98) return 1;
  return 1 - (double)came / sent;
}

static int datagrams(char **argv) {
  struct sockaddr_in to = address(argv[0], argv[1]);
  datagram_size = atoi(argv[2]);
  double rate = atof(argv[3]), good = 0, bad = 0, best = 0, reached;
  int tries = 0;
  for (int i = 0; i < FLOWS; i++) {
    flows[i] = calling(&to, SOCK_DGRAM);
    if (flows[i] < 0) die("connect");
    roomy(flows[i]);
    watch(flows[i], EPOLLIN, EPOLL_CTL_ADD);
  }
  introduce();
  uint64_t all = 0;
  while ((good == 0 || bad == 0 || bad / good > CLOSE_ENOUGH) && tries < 24 && rate > 50) {
    /* A single miss may be another program's turn on the processor. */
    double lost = try_rate(rate, &reached);
    all += (uint64_t)(reached * TRY_SECONDS);
    if (lost > LOST) {
      lost = try_rate(rate, &reached);
      all += (uint64_t)(reached * TRY_SECONDS);
    }
    tries++;
    if (lost <= LOST) {
      good = rate;
      best = reached;
    } else {
      bad = rate;
    }
    rate = bad == 0 ? good * 2 : good == 0 ? bad / 2 : (good + bad) / 2;
  }
  printf("{\"perSecond\":%.1f,\"tries\":%d,\"all\":%llu,\"cpuSeconds\":%.6f}\n", best, tries,
         (unsigned long long)all, cpu());
  return 0;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int args;
    int (*run)(char **);
  } roles[] = {{"serve", 3, serve}, {"bulk", 4, bulk},   {"connect", 4, connects},
               {"idle", 3, idle},   {"knock", 3, knock}, {"udp", 4, datagrams}};
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  signal(SIGPIPE, SIG_IGN);
  setvbuf(stdout, NULL, _IOLBF, 0);
  poller = epoll_create1(0);
  for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
    if (argc == roles[i].args + 2 && strcmp(argv[1], roles[i].name) == 0) return roles[i].run(argv + 2);
  }
  fprintf(stderr, "load: %s is not known, or its arguments are not\n", argc > 1 ? argv[1] : "nothing");
  return 2;
}
