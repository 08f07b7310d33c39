/* least_utilized.c: picks a backend by the utilisation that backends report. Plain C, no Rust.
 *
 * Why it exists: as an example of load reports in C. least-utilized/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libleast_utilized.so least_utilized.c
 * It needs [strategy.load_reports] with enabled = true, and backends that report. A draw is weighted by the free part of each backend. If a
 * report is missing or older than 10 s, the backend with the fewest requests in flight is picked, and the random bits decide between equal ones.
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host. */
#define LB_STRATEGY_IMPL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define AGE_MAX_NS 10000000000u
#define FULL 0.95 /* a full backend keeps a twentieth of its share, so that a later report can show that it has room again */

struct lb_strategy { const lb_host *host; };
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("least_utilized has no options");
      host->sink_write(err, reason);
      return LB_E_CONFIG;
    }
  }
  lb_strategy *strategy = malloc(sizeof *strategy);
  if (strategy == NULL) return LB_E_OTHER;
  strategy->host = host;
  *out = strategy;
  return LB_OK;
}

static void strategy_free(lb_strategy *strategy) { free(strategy); }

static lb_status picker_new(lb_strategy *strategy, const lb_backends *backends, lb_sink *err, lb_picker **out) {
  (void)strategy, (void)backends, (void)err;
  *out = (lb_picker *)&THE_PICKER;
  return LB_OK;
}

static void picker_free(lb_picker *picker) { (void)picker; }

static int is_tried(const lb_request *request, uint32_t index) {
  for (uint32_t i = 0; i < request->n_tried; i++)
    if (request->tried[i] == index) return 1;
  return 0;
}

/* The free part of a backend by its report; -1 without a new report. */
static double free_part(const lb_backend *backend, const lb_request *request) {
  uint64_t at_ns = __atomic_load_n(&backend->stats->report_at_ns, __ATOMIC_RELAXED);
  if (at_ns == 0) return -1;
  if (request->now_ns > at_ns && request->now_ns - at_ns > AGE_MAX_NS) return -1;
  double used = lb_double(__atomic_load_n(&backend->stats->utilization, __ATOMIC_RELAXED));
  return 1 - (used < FULL ? used : FULL);
}

static double value_of(const uint64_t *word) { return lb_double(__atomic_load_n(word, __ATOMIC_RELAXED)); }

static uint32_t in_flight(const lb_backend *backend) { return __atomic_load_n(&backend->stats->in_flight, __ATOMIC_RELAXED); }

/* The fewest requests in flight of n candidates. Of equal ones, the first behind a random place. */
static uint32_t least_busy(const lb_backends *backends, const lb_request *request, uint64_t n) {
  uint64_t first = ((request->rand >> 32) * n) >> 32, place = 0, least_order = 0;
  uint32_t least = UINT32_MAX, least_load = 0;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (is_tried(request, index)) continue;
    uint64_t order = (place++ + n - first) % n;
    uint32_t load = in_flight(LB_BACKEND(backends, index));
    if (least == UINT32_MAX || load < least_load || (load == least_load && order < least_order))
      least = index, least_load = load, least_order = order;
  }
  return least;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  double sum = 0;
  int is_known = 1;
  uint64_t n = 0;
  (void)strategy, (void)picker;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (is_tried(request, index)) continue;
    double part = free_part(LB_BACKEND(backends, index), request);
    if (part < 0) is_known = 0;
    sum += part * LB_BACKEND(backends, index)->effective;
    n++;
  }
  if (n == 0) return LB_NONE;
  if (!is_known) {
    out->index = least_busy(backends, request, n);
    return LB_OK;
  }
  /* A draw from 53 random bits. A report may change between the two walks; then the last candidate may get the rest. */
  double drawn = (double)(request->rand >> 11) / 9007199254740992.0 * sum;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (is_tried(request, index)) continue;
    double part = free_part(LB_BACKEND(backends, index), request);
    out->index = index;
    drawn -= (part < 0 ? 0 : part) * LB_BACKEND(backends, index)->effective;
    if (drawn < 0) break;
  }
  return LB_OK;
}

/* Writes the report of each backend. Names need no escapes in JSON. */
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                         lb_sink *out) {
  const lb_host *host = strategy->host;
  char text[512] = "{\"reports\":[";
  (void)picker;
  for (uint32_t index = 0; index < backends->len; index++) {
    const lb_backend *backend = LB_BACKEND(backends, index);
    const lb_stats *stats = backend->stats;
    uint64_t at_ns = __atomic_load_n(&stats->report_at_ns, __ATOMIC_RELAXED);
    uint64_t age_ns = request->now_ns > at_ns ? request->now_ns - at_ns : 0;
    host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
    snprintf(text, sizeof text, "%s{\"backend\":\"%.*s\"", index > 0 ? "," : "", (int)backend->name.len, (const char *)backend->name.ptr);
    host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
    snprintf(text, sizeof text, "}");
    if (at_ns != 0)
      snprintf(text, sizeof text, ",\"age_ms\":%llu,\"utilization\":%.17g,\"qps\":%.17g,\"eps\":%.17g,\"metrics\":[%.17g,%.17g,%.17g,%.17g]}",
               (unsigned long long)(age_ns / 1000000), value_of(&stats->utilization), value_of(&stats->qps), value_of(&stats->eps),
               value_of(&stats->metric[0]), value_of(&stats->metric[1]), value_of(&stats->metric[2]), value_of(&stats->metric[3]));
  }
  host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
  host->sink_write(out, (lb_str){(const uint8_t *)"]}", 2});
  return LB_OK;
}

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it reads the reports and the list of eligible backends */
    .name = TEXT("least_utilized"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .expectation = TEXT("{\"balance\":\"by_load\"}"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .explain = explain,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return LB_HAS(host, lb_host, stats_size) && host->stats_size >= sizeof(lb_stats) ? &TABLE : NULL;
}
