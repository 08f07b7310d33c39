/* hostile_process.c: its picks are right, except for the ways with "pick_". Its options select a fault of the process that runs it:
 *     {"way": "abort" | "crash" | "spin" | "exit" | "thread" | "descriptor" | "fork" | "chatty" | "refuse" |
 *             "look" | "pick_spin" | "pick_panic" | "pick_index" | "pick_eligible" | "pick_none" | "finish" | "probe" |
 *             "explain" | "state", "pid_file": "…", "port": "…"}
 * "look" refuses its options with a reason that lists its access to the machine: command line, user, group, whether it finds the token in
 * its own or its parent's environment, whether it can connect to "port".
 * With -DIN_CONSTRUCTOR="abort" (or crash, spin, exit) the fault occurs when the library is opened, before any hook is called. With
 * -DIN_INIT="…" and -Wl,-init,at_init it occurs in the other function that the dynamic linker calls.
 * Why it exists: such a plugin can be tried only in another process. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sound.h"

/* Faults that end the process or stop it for ever. */
static void end_process(const char *way) {
  if (strcmp(way, "abort") == 0) abort();
  if (strcmp(way, "crash") == 0) *(volatile int *)8 = 1;
  if (strcmp(way, "spin") == 0) for (volatile int on = 1; on;) {}
  if (strcmp(way, "exit") == 0) exit(0);
}
#ifdef IN_CONSTRUCTOR
__attribute__((constructor)) static void constructor(void) { end_process(IN_CONSTRUCTOR); }
#endif
#ifdef IN_INIT
void at_init(void) { end_process(IN_INIT); }
#endif

struct hostile { const lb_host *host; char way[32]; };

/* The string after "name": in the options, or "". */
static void option(lb_str config, const char *name, char *value, size_t room) {
  char text[4096] = {0};
  memcpy(text, config.ptr, config.len < sizeof text ? config.len : sizeof text - 1);
  value[0] = 0;
  const char *found = strstr(text, name);
  if (found == NULL) return;
  found += strlen(name) + 3;
  size_t length = strcspn(found, "\"");
  if (length < room) memcpy(value, found, length), value[length] = 0;
}
/* Whether the file can be read and contains the text in its first 64 KiB. */
static int file_has(const char *path, const char *text) {
  static char bytes[1 << 16];
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  size_t length = fread(bytes, 1, sizeof bytes, file);
  fclose(file);
  return memmem(bytes, length, text, strlen(text)) != NULL;
}
static size_t look(const char *port, char *text, size_t room) {
  char command[256] = {0}, parent[64];
  FILE *file = fopen("/proc/self/cmdline", "r");
  size_t length = file != NULL ? fread(command, 1, sizeof command - 1, file) : 0;
  if (file != NULL) fclose(file);
  for (size_t i = 0; i + 1 < length; i++) if (command[i] == 0) command[i] = ' ';
  snprintf(parent, sizeof parent, "/proc/%d/environ", (int)getppid());
  int token = getenv("LB_ADMIN_TOKEN") != NULL || file_has("/proc/self/environ", "LB_") || file_has(parent, "LB_ADMIN_TOKEN");
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int client = socket(AF_INET, SOCK_STREAM, 0);
  int has_network = client >= 0 && connect(client, (struct sockaddr *)&to, sizeof to) == 0;
  if (client >= 0) close(client);
  return snprintf(text, room, "command=[%s] user=%d group=%d token=%d network=%d", command, (int)getuid(), (int)getgid(), token,
                  has_network);
}
static void *idle(void *nothing) {
  pause();
  return nothing;
}
static lb_status hostile_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  struct hostile *hostile = calloc(1, sizeof *hostile);
  hostile->host = host;
  char path[1024];
  pthread_t thread;
  option(config, "way", hostile->way, sizeof hostile->way);
  option(config, "pid_file", path, sizeof path);
  const char *way = hostile->way;
  end_process(way);
  if (strcmp(way, "thread") == 0) pthread_create(&thread, NULL, idle, NULL);
  if (strcmp(way, "descriptor") == 0 && open("/dev/null", O_RDONLY) < 0) return LB_E_OTHER;
  if (strcmp(way, "fork") == 0) {
    pid_t child = fork();
    if (child == 0) pause();
    FILE *file = fopen(path, "w");
    if (file == NULL) return LB_E_OTHER;
    fprintf(file, "%d", (int)child);
    fclose(file);
    for (volatile int on = 1; on;) {}
  }
  if (strcmp(way, "chatty") == 0)
    for (int line = 0; line < 10000; line++) printf("{\"verdict\":\"refused\"} I am line %d\n", line);
  if (strcmp(way, "look") == 0) {
    char port[16], text[512];
    option(config, "port", port, sizeof port);
    lb_str seen = {(const uint8_t *)text, look(port, text, sizeof text)};
    host->sink_write(err, seen);
    free(hostile);
    return LB_E_CONFIG;
  }
  if (strcmp(way, "refuse") == 0) {
    static const lb_str reason = TEXT("way: \"refuse\" is none");
    host->sink_write(err, reason);
    free(hostile);
    return LB_E_CONFIG;
  }
  *out = (lb_strategy *)hostile;
  return LB_OK;
}
static void hostile_free(lb_strategy *strategy) { free(strategy); }

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  const char *way = ((struct hostile *)strategy)->way;
  (void)picker;
  if (strcmp(way, "pick_spin") == 0) for (volatile int on = 1; on;) {}
  if (strcmp(way, "pick_panic") == 0 && request->rand % 100 == 0) return LB_E_PANIC;
  if (strcmp(way, "pick_index") == 0) {
    out->index = backends->len;
    return LB_OK;
  }
  if (strcmp(way, "pick_none") == 0) return LB_NONE;
  for (uint32_t i = 0; i < backends->len; i++) {
    int is_tried = 0;
    for (uint32_t t = 0; t < request->n_tried; t++) is_tried |= request->tried[t] == i;
    int is_eligible = (LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) || strcmp(way, "pick_eligible") == 0;
    if (is_eligible && !is_tried) {
      out->index = i;
      return LB_OK;
    }
  }
  return LB_NONE;
}
/* Not empty, because the host imports no empty state. */
static lb_status hostile_export(lb_strategy *strategy, lb_sink *out) {
  const lb_str word = TEXT("x");
  ((struct hostile *)strategy)->host->sink_write(out, word);
  return LB_OK;
}
static lb_status hostile_import(lb_strategy *strategy, uint32_t version, lb_str bytes, lb_sink *err) {
  (void)version, (void)bytes, (void)err;
  return strcmp(((struct hostile *)strategy)->way, "state") == 0 ? LB_E_STATE : LB_OK;
}
/* As a library does that catches a panic in a hook without a status. */
static void hostile_finish(lb_strategy *strategy, const lb_finish *finish) {
  const lb_str words = TEXT("panicked at hostile_process.c");
  const struct hostile *hostile = (struct hostile *)strategy;
  (void)finish;
  if (strcmp(hostile->way, "finish") == 0) hostile->host->log(hostile->host->ctx, 1, words);
}
static void hostile_probe(lb_strategy *strategy, const lb_probe *probe) {
  const lb_str words = TEXT("panicked at hostile_process.c");
  const struct hostile *hostile = (struct hostile *)strategy;
  (void)probe;
  if (strcmp(hostile->way, "probe") == 0) hostile->host->log(hostile->host->ctx, 1, words);
}
static lb_status hostile_explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                                 const lb_request *request, lb_sink *json_out) {
  const lb_str words = TEXT("{}");
  const struct hostile *hostile = (struct hostile *)strategy;
  (void)picker, (void)backends, (void)request;
  if (strcmp(hostile->way, "explain") == 0) return LB_E_PANIC;
  hostile->host->sink_write(json_out, words);
  return LB_OK;
}
static const lb_strategy_table TABLE = {
    SOUND, .strategy_new = hostile_new, .strategy_free = hostile_free, .pick = pick, .state_schema = TEXT("none"),
    .state_export = hostile_export, .state_import = hostile_import, .explain = hostile_explain,
    .flags = LB_F_WANTS_FINISH, .on_finish = hostile_finish, .on_probe = hostile_probe};
ENTRY(&TABLE)
