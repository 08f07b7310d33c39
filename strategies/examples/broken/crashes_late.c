/* crashes_late.c: picks the first candidate, and crashes at a given request. It counts only requests with the header x-real, which a
 * trial does not send. Its options: {"way": "null" | "abort" | "overflow" | "spin" | "thread", "at": "1000"}. "null" writes to address 8,
 * "overflow" needs more stack than a thread has, "spin" does not return, and "thread" crashes in a thread of its own. With the ways
 * "start" and "finish" the next begin or end of an attempt does not return.
 * Why it exists: such a plugin passes its trial and ends the process later. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sound.h"

struct late { lb_strategy base; char way[16]; long at; atomic_long seen; atomic_int is_due; };

/* The string after name and colon in the options, or "". The name has its quotes. */
static void option(lb_str config, const char *name, char *value, size_t room) {
  char text[512] = {0};
  memcpy(text, config.ptr, config.len < sizeof text ? config.len : sizeof text - 1);
  value[0] = 0;
  const char *found = strstr(text, name);
  if (found == NULL) return;
  found += strlen(name) + 2;
  size_t length = strcspn(found, "\"");
  if (length < room) memcpy(value, found, length), value[length] = 0;
}
static lb_status late_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  struct late *late = calloc(1, sizeof *late);
  char at[16];
  (void)host, (void)err;
  option(config, "\"way\"", late->way, sizeof late->way);
  option(config, "\"at\"", at, sizeof at);
  late->at = atol(at);
  *out = &late->base;
  return LB_OK;
}
static void late_free(lb_strategy *strategy) { free(strategy); }
static int deeper(int depth) {
  volatile char frame[1000];
  frame[0] = (char)depth;
  return depth < 0 ? frame[0] : deeper(depth + 1) + frame[0];
}
static void *crash_there(void *nothing) {
  *(volatile int *)8 = 1;
  return nothing;
}
static void crash(const char *way) {
  if (strcmp(way, "null") == 0) *(volatile int *)8 = 1;
  if (strcmp(way, "abort") == 0) abort();
  if (strcmp(way, "overflow") == 0) deeper(0);
  if (strcmp(way, "thread") == 0) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, crash_there, NULL) == 0) pthread_join(thread, NULL);
  }
  if (strcmp(way, "spin") == 0) for (volatile int on = 1; on;) {}
}
/* A call of a hook other than pick, with its name. */
static void told(lb_strategy *strategy, const char *hook) {
  struct late *late = (struct late *)strategy;
  if (atomic_load(&late->is_due) && strcmp(late->way, hook) == 0) crash("spin");
}
static void on_start(lb_strategy *strategy, const lb_start *start) {
  (void)start;
  told(strategy, "start");
}
static void on_finish(lb_strategy *strategy, const lb_finish *finish) {
  (void)finish;
  told(strategy, "finish");
}
static lb_status late_pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                           lb_pick *out) {
  static const lb_str real = TEXT("x-real");
  struct late *late = (struct late *)strategy;
  lb_str value;
  (void)picker;
  if (request->header(request, real, 0, &value) && atomic_fetch_add(&late->seen, 1) + 1 == late->at) {
    atomic_store(&late->is_due, 1);
    crash(late->way);
  }
  if (lb_candidate_count(backends, request) == 0) return LB_NONE;
  out->index = lb_candidate(backends, request, 0);
  return LB_OK;
}
static const lb_strategy_table TABLE = {
    SOUND, .flags = LB_F_WANTS_FINISH, .name = TEXT("late"), .strategy_new = late_new, .strategy_free = late_free,
    .pick = late_pick, .on_start = on_start, .on_finish = on_finish};
ENTRY(&TABLE)
