/* tells_threads.c: picks the first eligible backend. Each call that makes or frees an instance or a picker writes a line to the file in
 * its options, {"file": "…"}: "<process> <thread's name> <hook> <instance or picker>".
 * Why it exists: a test sees in the file which thread makes and frees each one, and whether each is freed once. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "sound.h"

struct telling { char file[1024]; };

static void tell(const struct telling *telling, const char *hook, const void *subject) {
  char name[17] = {0}, line[128];
  prctl(PR_GET_NAME, name);
  int length = snprintf(line, sizeof line, "%d %s %s %p\n", (int)getpid(), name, hook, subject);
  int file = open(telling->file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0 || write(file, line, (size_t)length) != length) abort();
  close(file);
}
static lb_status telling_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  struct telling *telling = calloc(1, sizeof *telling);
  const char *key = "\"file\":\"";
  (void)host, (void)err;
  if (telling == NULL) return LB_E_OTHER;
  for (size_t i = 0; i + strlen(key) < config.len; i++) {
    if (memcmp(config.ptr + i, key, strlen(key)) != 0) continue;
    for (size_t n = 0, at = i + strlen(key); at < config.len && config.ptr[at] != '"' && n + 1 < sizeof telling->file; n++, at++)
      telling->file[n] = (char)config.ptr[at];
  }
  tell(telling, "strategy_new", telling);
  *out = (lb_strategy *)telling;
  return LB_OK;
}
static void telling_free(lb_strategy *strategy) {
  tell((struct telling *)strategy, "strategy_free", strategy);
  free(strategy);
}
struct telling_picker { struct telling *telling; };
static lb_status telling_picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  struct telling_picker *picker = malloc(sizeof *picker);
  (void)backends, (void)err;
  if (picker == NULL) return LB_E_OTHER;
  picker->telling = (struct telling *)strategy;
  tell(picker->telling, "picker_new", picker);
  *out = (lb_picker *)picker;
  return LB_OK;
}
static void telling_picker_free(lb_picker *picker) {
  tell(((struct telling_picker *)picker)->telling, "picker_free", picker);
  free(picker);
}
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  (void)strategy, (void)picker;
  for (uint32_t i = 0; i < backends->len; i++) {
    int is_tried = 0;
    for (uint32_t t = 0; t < request->n_tried; t++) is_tried |= request->tried[t] == i;
    if ((LB_BACKEND(backends, i)->flags & LB_BACKEND_ELIGIBLE) && !is_tried) {
      out->index = i;
      return LB_OK;
    }
  }
  return LB_NONE;
}
static const lb_strategy_table TABLE = {
    SOUND, .strategy_new = telling_new, .strategy_free = telling_free, .picker_new = telling_picker_new,
    .picker_free = telling_picker_free, .pick = pick};
ENTRY(&TABLE)
