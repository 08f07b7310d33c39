/* every_hook.c: a strategy that uses every hook of the contract, for the soak of memory.py, which compiles it.
 *
 * Why it exists: no example has all hooks at once. Invariants: picks are random, and each call only counts. Each word of a slot and each
 * counter is changed atomically, because all workers and the builder call at the same time. */
#define LB_STRATEGY_IMPL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define REBUILD_EVERY 20 /* ticks */

struct lb_strategy {
  const lb_host *host;
  uint64_t ticks, starts, finishes, headers, probes[2];
};
struct lb_picker { uint32_t n; };

static void count(uint64_t *number) { __atomic_fetch_add(number, 1, __ATOMIC_RELAXED); }

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  (void)config, (void)err;
  lb_strategy *strategy = calloc(1, sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  *out = strategy;
  return LB_OK;
}
static void strategy_free(lb_strategy *strategy) { free(strategy); }
static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)strategy, (void)err;
  if ((*out = malloc(sizeof **out)) == NULL) return LB_E_OTHER;
  (*out)->n = backends->len;
  return LB_OK;
}
static void picker_free(lb_picker *picker) { free(picker); }
static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request, lb_pick *out) {
  uint32_t n = lb_candidate_count(backends, request);
  (void)strategy, (void)picker;
  if (n == 0) return LB_NONE;
  out->index = lb_candidate(backends, request, (uint32_t)(request->rand % n));
  out->token = request->rand;
  out->n_probes = 2;
  for (uint32_t i = 0; i < out->n_probes; i++) out->probe[i] = lb_candidate(backends, request, (uint32_t)((request->rand >> 16) + i) % n);
  return LB_OK;
}
static void on_start(lb_strategy *strategy, const lb_start *start) {
  (void)start;
  count(&strategy->starts);
}
static void on_finish(lb_strategy *strategy, const lb_finish *finish) {
  count(&strategy->finishes);
  if (finish->slot != NULL) count(&finish->slot->word[0]);
  if (finish->n_response_headers > 0 && finish->response_headers[0].ptr != NULL) count(&strategy->headers);
}
static void on_probe(lb_strategy *strategy, const lb_probe *probe) {
  count(&strategy->probes[probe->worker == LB_WORKER_ANY]);
  if (probe->slot != NULL) count(&probe->slot->word[1]);
}
static lb_status tick(lb_strategy *strategy, uint64_t now_ns) {
  (void)now_ns;
  return ++strategy->ticks % REBUILD_EVERY == 0 ? LB_REBUILD : LB_OK;
}
static lb_status metrics(lb_strategy *strategy, lb_sink *out) {
  char text[1024];
  const char *line = "{\"name\":\"%s\",\"type\":\"counter\",\"help\":\"Calls of the soak.\",\"value\":%llu}\n";
  const char *names[] = {"ticks_total", "starts_total", "finishes_total", "headers_total", "pick_probes_total", "periodic_probes_total"};
  const uint64_t *values[] = {&strategy->ticks, &strategy->starts, &strategy->finishes, &strategy->headers, &strategy->probes[0],
                              &strategy->probes[1]};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    int length = snprintf(text, sizeof text, line, names[i], (unsigned long long)__atomic_load_n(values[i], __ATOMIC_RELAXED));
    strategy->host->sink_write(out, (lb_str){(const uint8_t *)text, (size_t)length});
  }
  return LB_OK;
}
static lb_status state_export(lb_strategy *strategy, lb_sink *out) {
  strategy->host->sink_write(out, (lb_str){(const uint8_t *)&strategy->ticks, sizeof strategy->ticks});
  return LB_OK;
}
static lb_status state_import(lb_strategy *strategy, uint32_t version, lb_str state, lb_sink *err) {
  (void)version, (void)err;
  if (state.len != sizeof strategy->ticks) return LB_E_STATE;
  memcpy(&strategy->ticks, state.ptr, state.len);
  return LB_OK;
}
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                         lb_sink *out) {
  (void)picker, (void)backends, (void)request;
  strategy->host->sink_write(out, (lb_str){(const uint8_t *)"{}", 2});
  return LB_OK;
}

static const lb_str RESPONSE_HEADERS[] = {TEXT("x-server-id"), TEXT("x-absent")};

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1,
    .flags = LB_F_WANTS_HASH | LB_F_WANTS_FINISH | LB_F_WANTS_ANSWER,
    .name = TEXT("every_hook"),
    .version = TEXT("1"),
    .build = TEXT("C"),
    .state_schema = TEXT("soak"),
    .state_version = 1,
    .tick_ms = 50,
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .on_finish = on_finish,
    .state_export = state_export,
    .state_import = state_import,
    .tick = tick,
    .explain = explain,
    .on_start = on_start,
    .metrics = metrics,
    .response_headers = RESPONSE_HEADERS,
    .n_response_headers = 2,
    .body_bytes = 64,
    .on_probe = on_probe,
    .probe_ms = 20,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return host->request_size >= sizeof(lb_request) ? &TABLE : NULL;
}
