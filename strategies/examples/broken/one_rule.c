/* one_rule.c: a round robin over the candidates that breaks exactly one rule, selected with -DBREAKS_...
 *
 * Why it exists: the score card must report each broken rule in the right row. Invariant: without -D no rule is broken.
 * -DOFFERS_ALL_HOOKS breaks none, but offers every optional hook. -DTAKES_NS=n makes each pick take so long. */
#define LB_STRATEGY_IMPL
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}

#if defined BREAKS_EXPLAIN_JSON || defined BREAKS_EXPLAIN_BACKEND || defined BREAKS_EXPLAIN_PANIC || defined BREAKS_TICK || \
    defined BREAKS_FINISH || defined BREAKS_PROBE || defined BREAKS_METRICS || defined BREAKS_METRICS_SIGN || \
    defined BREAKS_METRICS_ONCE
#define OFFERS_ALL_HOOKS
#endif

struct lb_strategy { const lb_host *host; uint64_t turn[4]; };
struct lb_picker { char nothing; };
static const lb_picker THE_PICKER = {0};
#ifdef BREAKS_INSTANCES
static uint64_t shared_turn;
#endif
#ifdef BREAKS_MEMORY
void *volatile lost;
#endif

#ifdef BREAKS_THREAD_IN_NEW
static void *wait_for_ever(void *nothing) {
  for (;;) pause();
  return nothing;
}
#endif
static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  (void)config, (void)err;
#ifdef BREAKS_THREAD_IN_NEW
  static int has_one; /* only the first instance starts it, as a library with a thread of its own would */
  pthread_t thread;
  if (!has_one++ && pthread_create(&thread, NULL, wait_for_ever, NULL) != 0) return LB_E_OTHER;
#endif
  *out = calloc(1, sizeof **out);
  if (*out == NULL) return LB_E_OTHER;
  (*out)->host = host;
  return LB_OK;
}
static void strategy_free(lb_strategy *strategy) { free(strategy); }
static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)strategy, (void)backends, (void)err;
  *out = (lb_picker *)&THE_PICKER;
  return LB_OK;
}
static void picker_free(lb_picker *picker) { (void)picker; }

static int may_serve(const lb_backends *backends, const lb_request *request, uint32_t index) {
#ifndef BREAKS_ELIGIBILITY
  if (!(LB_BACKEND(backends, index)->flags & LB_BACKEND_ELIGIBLE)) return 0;
#endif
#ifdef BREAKS_LABELS
  /* only the zone of the first backend; the labels end with "zone":"a"} or "zone":"b"} */
  lb_str own = LB_BACKEND(backends, index)->labels_json, first = LB_BACKEND(backends, 0)->labels_json;
  if (own.len > 3 && first.len > 3 && own.ptr[own.len - 3] != first.ptr[first.len - 3]) return 0;
#endif
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 0;
  return 1;
}

#ifdef TAKES_NS
static void take_time(void) {
  struct timespec began, now;
  clock_gettime(CLOCK_MONOTONIC, &began);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while ((now.tv_sec - began.tv_sec) * 1000000000LL + now.tv_nsec - began.tv_nsec < TAKES_NS);
}
#endif

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends,
                      const lb_request *request, lb_pick *out) {
  uint32_t n = 0, left;
  uint64_t *turn = &strategy->turn[0];
  (void)picker, (void)turn;
#ifdef TAKES_NS
  take_time();
#endif
#ifdef BREAKS_INSTANCES
  turn = &shared_turn;
#endif
#ifdef BREAKS_THREADS
  turn = &strategy->turn[request->worker % 4]; /* each worker has its own turns, so counts are even for one worker and uneven for all */
#endif
#ifdef BREAKS_MEMORY
  lost = malloc(64);
  if (lost != NULL) *(char *)lost = 1;
#endif
  for (uint32_t i = 0; i < backends->len; i++) n += may_serve(backends, request, i);
  if (n == 0) return LB_NONE;
#ifdef WAITS_WHEN_IDLE
  if (request->rand % 4 == 0) return LB_WAIT; /* no rule is broken: the card only warns */
#endif
#ifdef BREAKS_BY_A_CRASH
  if (request->n_tried > 0) abort();
#endif
#ifdef BREAKS_BY_A_HANG
  while (request->n_tried > 0) __atomic_fetch_add(turn, 1, __ATOMIC_RELAXED);
#endif
#if defined BREAKS_FAIRNESS
  left = 0;
#elif defined BREAKS_CONSISTENCY
  left = (uint32_t)(((request->rand >> 32) * n) >> 32);
#elif defined BREAKS_DRY
  left = (uint32_t)(__atomic_fetch_add(turn, 1, __ATOMIC_RELAXED) % n);
#else
  left = (uint32_t)((request->flags & LB_REQ_DRY ? __atomic_load_n(turn, __ATOMIC_RELAXED)
                                                 : __atomic_fetch_add(turn, 1, __ATOMIC_RELAXED)) % n);
#endif
  for (uint32_t i = 0; i < backends->len; i++) {
    if (may_serve(backends, request, i) && left-- == 0) {
      out->index = i;
      break;
    }
  }
  return LB_OK;
}

#ifdef OFFERS_ALL_HOOKS
static void on_start(lb_strategy *strategy, const lb_start *start) { (void)strategy, (void)start; }
static void on_finish(lb_strategy *strategy, const lb_finish *finish) {
  (void)strategy, (void)finish;
#ifdef BREAKS_FINISH
  static const lb_str failure = TEXT("panicked at on_finish");
  strategy->host->log(strategy->host->ctx, 1, failure); /* as a hook without a status reports its failure */
#endif
}
static void on_probe(lb_strategy *strategy, const lb_probe *probe) {
  (void)strategy, (void)probe;
#ifdef BREAKS_PROBE
  static const lb_str failure = TEXT("panicked at on_probe");
  strategy->host->log(strategy->host->ctx, 1, failure);
#endif
}
static lb_status metrics(lb_strategy *strategy, lb_sink *out) {
#if defined BREAKS_METRICS_SIGN
  static const lb_str line = TEXT("{\"name\":\"turns\",\"type\":\"counter\",\"help\":\"Turns.\",\"value\":-1}\n");
#elif defined BREAKS_METRICS
  static const lb_str line = TEXT("{\"name\":\"turns-taken\",\"type\":\"counter\",\"help\":\"Turns.\",\"value\":1}\n");
#else
  static const lb_str line = TEXT("{\"name\":\"turns\",\"type\":\"counter\",\"help\":\"Turns.\",\"value\":1}\n");
#endif
  strategy->host->sink_write(out, line);
#ifdef BREAKS_METRICS_ONCE
  strategy->host->sink_write(out, line); /* a second sample with the same labels */
#endif
  return LB_OK;
}
static lb_status state_export(lb_strategy *strategy, lb_sink *out) {
  lb_str bytes = {(const uint8_t *)strategy->turn, sizeof strategy->turn[0]};
  strategy->host->sink_write(out, bytes);
  return LB_OK;
}
static lb_status state_import(lb_strategy *strategy, uint32_t version, lb_str bytes, lb_sink *err) {
  (void)err;
  if (version != 1 || bytes.len != sizeof strategy->turn[0]) return LB_E_STATE;
  for (size_t i = 0; i < bytes.len; i++) ((uint8_t *)strategy->turn)[i] = bytes.ptr[i];
  return LB_OK;
}
static lb_status tick(lb_strategy *strategy, uint64_t now_ns) {
  (void)strategy, (void)now_ns;
#ifdef BREAKS_TICK
  static const lb_str failure = TEXT("panicked at one_rule.c:\n  the spring broke"); /* as the hook of the SDK writes it */
  strategy->host->log(strategy->host->ctx, 1, failure);
  return LB_E_PANIC;
#else
  return LB_REBUILD;
#endif
}
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                         lb_sink *out) {
  char text[64] = "{\"backend\":null}";
  lb_pick picked = {0};
  if (pick(strategy, picker, backends, request, &picked) == LB_OK) {
    uint32_t index = picked.index;
#ifdef BREAKS_EXPLAIN_BACKEND
    index = (index + 1) % backends->len;
#endif
    snprintf(text, sizeof text, "{\"backend\":%u}", index);
  }
#ifdef BREAKS_EXPLAIN_JSON
  snprintf(text, sizeof text, "it is backend %u", picked.index);
#endif
#ifdef BREAKS_EXPLAIN_PANIC
  return LB_E_PANIC;
#endif
  size_t length = 0;
  while (text[length] != 0) length++;
  lb_str words = {(const uint8_t *)text, length};
  strategy->host->sink_write(out, words);
  return LB_OK;
}
#endif

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .name = TEXT("one_rule"),
    .version = TEXT("1"),
    .build = TEXT("C"),
#ifdef BREAKS_CONSISTENCY
    .flags = LB_F_WANTS_HASH,
    .expectation = TEXT("{\"balance\":\"multinomial\",\"consistent\":true}"),
#else
    .expectation = TEXT("{\"balance\":\"exact\"}"),
#ifdef OFFERS_ALL_HOOKS
    .flags = LB_F_WANTS_FINISH,
#endif
#endif
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
#ifdef OFFERS_ALL_HOOKS
    .state_schema = TEXT("turns"),
    .state_version = 1,
    .tick_ms = 100,
    .on_start = on_start,
    .on_probe = on_probe,
    .on_finish = on_finish,
    .metrics = metrics,
    .state_export = state_export,
    .state_import = state_import,
    .tick = tick,
    .explain = explain,
#endif
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
