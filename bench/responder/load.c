/*
 * The load of the responder benchmark: requests in a closed loop, so many at once, each on a socket of its own. In C and
 * on epoll, since a load generator in Node would be what is measured. The answer is one line of JSON.
 *
 *     load pcp|natpmp|address GATEWAY OWN FIRST COUNT AT_ONCE SECONDS ONCE|ROUND
 *     load soap GATEWAY OWN FIRST COUNT AT_ONCE SECONDS ONCE|ROUND PORT PATH TYPE CLOSE|KEEP ACTION
 *
 * Ports FIRST to FIRST + COUNT - 1 are mapped, inner and outer the same, TCP: once, or round and round. It ends after
 * SECONDS, or when all are mapped. `address` asks NAT-PMP for the external address; of SOAP, ACTION is AddPortMapping or
 * GetExternalIPAddress.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_AT_ONCE 256
#define LIFETIME 7200
#define PATIENCE_US 10000000
#define MOST_SAMPLES 20000000
#define BUFFER 16384

enum kind { PCP, NATPMP, ADDRESS, SOAP };

struct line {
  int fd, port, length, expected, is_sent, is_watched;
  int64_t since;
  char answer[BUFFER];
};

static struct line lines[MOST_AT_ONCE];
static enum kind kind;
static struct sockaddr_in gateway, own;
static int first, count, at_once, once, next_port, poller, keeps, active;
static const char *gateway_name, *own_name, *path, *type, *action;
static int64_t end_us;
static uint32_t *samples;
static long answered, refused, lost, connections;

static int64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void watch(struct line *line, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = line};
  if (epoll_ctl(poller, line->is_watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, line->fd, &event) < 0) die("epoll_ctl");
  line->is_watched = 1;
}

static void hang_up(struct line *line) {
  if (line->fd >= 0) close(line->fd);
  line->fd = -1;
  line->is_watched = 0;
}

static void mapped(unsigned char *at, struct in_addr address) {
  memset(at, 0, 10);
  at[10] = at[11] = 0xff;
  memcpy(at + 12, &address, 4);
}

static void put16(unsigned char *at, int value) {
  at[0] = value >> 8;
  at[1] = value;
}

static void put32(unsigned char *at, uint32_t value) {
  put16(at, value >> 16);
  put16(at + 2, value & 0xffff);
}

static int packet(unsigned char *bytes, int port) {
  memset(bytes, 0, 60);
  if (kind == ADDRESS) return 2;
  if (kind == NATPMP) {
    bytes[1] = 2;
    put16(bytes + 4, port);
    put16(bytes + 6, port);
    put32(bytes + 8, LIFETIME);
    return 12;
  }
  bytes[0] = 2;
  bytes[1] = 1;
  put32(bytes + 4, LIFETIME);
  mapped(bytes + 8, own.sin_addr);
  put32(bytes + 24, port * 2654435761u);
  bytes[36] = 6;
  put16(bytes + 40, port);
  put16(bytes + 42, port);
  mapped(bytes + 44, (struct in_addr){0});
  return 60;
}

static int request(char *text, int size, int port) {
  char body[2048];
  int length;
  if (strcmp(action, "AddPortMapping") == 0) {
    length = snprintf(
        body, sizeof body,
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" "
        "s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:AddPortMapping xmlns:u=\"%s\">"
        "<NewRemoteHost></NewRemoteHost><NewExternalPort>%d</NewExternalPort><NewProtocol>TCP</NewProtocol>"
        "<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled>"
        "<NewPortMappingDescription>load</NewPortMappingDescription><NewLeaseDuration>%d</NewLeaseDuration>"
        "</u:AddPortMapping></s:Body></s:Envelope>\r\n",
        type, port, port, own_name, LIFETIME);
  } else {
    length = snprintf(
        body, sizeof body,
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" "
        "s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:%s xmlns:u=\"%s\"></u:%s>"
        "</s:Body></s:Envelope>\r\n",
        action, type, action);
  }
  return snprintf(text, size,
                  "POST %s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: load\r\nContent-Length: %d\r\n"
                  "Content-Type: text/xml\r\nSOAPAction: \"%s#%s\"\r\nConnection: %s\r\n\r\n%s",
                  path, gateway_name, ntohs(gateway.sin_port), length, type, action, keeps ? "keep-alive" : "close", body);
}

static void dial(struct line *line) {
  int one = 1, family = kind == SOAP ? SOCK_STREAM : SOCK_DGRAM;
  hang_up(line);
  line->fd = socket(AF_INET, family | SOCK_NONBLOCK, 0);
  if (line->fd < 0) die("socket");
  struct sockaddr_in from = own;
  if (kind == SOAP) {
    setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(line->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
  }
  if (bind(line->fd, (struct sockaddr *)&from, sizeof from) < 0) die("bind");
  if (connect(line->fd, (struct sockaddr *)&gateway, sizeof gateway) < 0 && errno != EINPROGRESS) die("connect");
  connections++;
}

static void send_now(struct line *line) {
  if (kind == SOAP) {
    char text[4096];
    int length = request(text, sizeof text, line->port);
    if (write(line->fd, text, length) != length) return;
  } else {
    unsigned char bytes[60];
    int length = packet(bytes, line->port);
    if (write(line->fd, bytes, length) != length && errno != ECONNREFUSED) die("send");
  }
  line->is_sent = 1;
  watch(line, EPOLLIN);
}

/* The next request on this line; none where all is done. */
static void begin(struct line *line) {
  if ((once && next_port >= first + count) || now_us() >= end_us) {
    hang_up(line);
    active--;
    return;
  }
  line->port = next_port++;
  if (!once && next_port == first + count) next_port = first;
  line->length = line->expected = line->is_sent = 0;
  line->since = now_us();
  if (kind == SOAP && (line->fd < 0 || !keeps)) {
    dial(line);
    watch(line, EPOLLOUT);
    return;
  }
  if (line->fd < 0) dial(line);
  send_now(line);
}

static void done(struct line *line, int is_granted) {
  int64_t took = now_us() - line->since;
  if (answered < MOST_SAMPLES) samples[answered] = took;
  answered++;
  if (!is_granted) refused++;
  begin(line);
}

/* Whole when its length has come, or, where it says none, its end. */
static int is_whole(struct line *line, int has_ended) {
  line->answer[line->length] = 0;
  if (line->expected == 0) {
    char *end = strstr(line->answer, "\r\n\r\n"), *length = strcasestr(line->answer, "\r\ncontent-length:");
    if (end == NULL) return 0;
    if (length != NULL && length < end) line->expected = end - line->answer + 4 + atoi(length + 17);
  }
  return line->expected > 0 ? line->length >= line->expected : has_ended;
}

static void heard_stream(struct line *line, uint32_t events) {
  if (!line->is_sent) {
    if (events & EPOLLOUT) send_now(line);
    if (line->is_sent) return;
  }
  int got = read(line->fd, line->answer + line->length, BUFFER - 1 - line->length);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got > 0) line->length += got;
  int is_done = is_whole(line, got <= 0);
  if (!is_done && got > 0) return;
  int is_granted = strncmp(line->answer, "HTTP/1.1 200", 12) == 0;
  if (is_done) {
    if (got <= 0 || strcasestr(line->answer, "\r\nconnection: close") != NULL || !keeps) hang_up(line);
    done(line, is_granted);
  } else if (line->length == 0 && keeps) {
    /* It was closed while it was idle: the same again on another one. */
    dial(line);
    line->is_sent = 0;
    watch(line, EPOLLOUT);
  } else {
    lost++;
    hang_up(line);
    begin(line);
  }
}

static void heard_datagram(struct line *line) {
  unsigned char bytes[1200];
  int got = read(line->fd, bytes, sizeof bytes);
  if (got < 8) return;
  int port = kind == PCP ? (got >= 42 ? bytes[40] << 8 | bytes[41] : -1) : got >= 10 ? bytes[8] << 8 | bytes[9] : -1;
  /* A late answer to the request before. */
  if (kind != ADDRESS && port != line->port && bytes[3] == 0) return;
  done(line, bytes[3] == 0 && (kind == PCP || bytes[2] == 0));
}

static void look_for_lost(void) {
  int64_t now = now_us();
  for (int at = 0; at < at_once; at++) {
    struct line *line = &lines[at];
    if (line->fd < 0 || now - line->since < PATIENCE_US) continue;
    lost++;
    hang_up(line);
    begin(line);
  }
}

static int less(const void *a, const void *b) {
  uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
  return one < other ? -1 : one > other;
}

int main(int argc, char **argv) {
  if (argc < 9) return 2;
  const char *names[] = {"pcp", "natpmp", "address", "soap"};
  for (kind = PCP; kind < SOAP && strcmp(argv[1], names[kind]) != 0; kind++) {}
  gateway_name = argv[2];
  own_name = argv[3];
  first = atoi(argv[4]);
  count = atoi(argv[5]);
  at_once = atoi(argv[6]);
  once = strcmp(argv[8], "ONCE") == 0;
  gateway = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(kind == SOAP ? atoi(argv[9]) : 5351)};
  own = (struct sockaddr_in){.sin_family = AF_INET};
  if (!inet_aton(gateway_name, &gateway.sin_addr) || !inet_aton(own_name, &own.sin_addr)) return 2;
  if (at_once > MOST_AT_ONCE || (kind == SOAP && argc < 14)) return 2;
  if (kind == SOAP) {
    path = argv[10];
    type = argv[11];
    keeps = strcmp(argv[12], "KEEP") == 0;
    action = argv[13];
  }
  samples = malloc(sizeof *samples * MOST_SAMPLES);
  poller = epoll_create1(0);
  next_port = first;
  int64_t began = now_us();
  end_us = began + atof(argv[7]) * 1e6;
  active = at_once;
  for (int at = 0; at < at_once; at++) lines[at].fd = -1;
  for (int at = 0; at < at_once; at++) begin(&lines[at]);
  for (int64_t looked = began; active > 0;) {
    struct epoll_event events[MOST_AT_ONCE];
    int ready = epoll_wait(poller, events, MOST_AT_ONCE, 200);
    for (int at = 0; at < ready; at++) {
      struct line *line = events[at].data.ptr;
      if (line->fd < 0) continue;
      if (kind == SOAP) heard_stream(line, events[at].events);
      else heard_datagram(line);
    }
    if (now_us() - looked > 200000) {
      looked = now_us();
      look_for_lost();
    }
  }
  double seconds = (now_us() - began) / 1e6;
  long kept = answered < MOST_SAMPLES ? answered : MOST_SAMPLES;
  qsort(samples, kept, sizeof *samples, less);
  printf("{\"answered\":%ld,\"refused\":%ld,\"lost\":%ld,\"connections\":%ld,\"seconds\":%.3f,\"perSecond\":%.1f,"
         "\"p50Us\":%u,\"p99Us\":%u}\n",
         answered, refused, lost, connections, seconds, answered / seconds, kept ? samples[kept / 2] : 0,
         kept ? samples[kept * 99 / 100] : 0);
  return 0;
}
