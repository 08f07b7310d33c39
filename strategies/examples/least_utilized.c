/* least_utilized.c: picks a backend by the utilisation that backends report. Plain C, no Rust.
 *
 * Why it exists: as an example of load reports in C. least-utilized/src/lib.rs is the same in Rust, with the same picks. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libleast_utilized.so least_utilized.c
 * It needs [strategy.load_reports] with enabled = true, and backends that report. A draw is weighted by the free part of each backend. If a
 * report is missing or older than 10 s, the backend with the fewest requests in flight is picked.
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host. */
#define LB_STRATEGY_IMPL
#include <stdlib.h>

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

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  double sum = 0;
  int is_known = 1;
  uint32_t least = UINT32_MAX, least_load = UINT32_MAX, n = 0;
  (void)strategy, (void)picker;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (is_tried(request, index)) continue;
    const lb_backend *backend = LB_BACKEND(backends, index);
    uint32_t load = __atomic_load_n(&backend->stats->in_flight, __ATOMIC_RELAXED);
    double part = free_part(backend, request);
    if (n++ == 0 || load < least_load) least = index, least_load = load;
    if (part < 0) is_known = 0;
    sum += part * backend->effective;
  }
  if (n == 0) return LB_NONE;
  out->index = least;
  if (!is_known) return LB_OK;
  /* A draw from 53 random bits. A report may change between the two walks; then the last candidate may get the rest. */
  double drawn = (double)(request->rand >> 11) / 9007199254740992.0 * sum;
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (is_tried(request, index)) continue;
    const lb_backend *backend = LB_BACKEND(backends, index);
    double part = free_part(backend, request);
    out->index = index;
    drawn -= (part < 0 ? 0 : part) * backend->effective;
    if (drawn < 0) break;
  }
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
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return LB_HAS(host, lb_host, stats_size) && host->stats_size >= sizeof(lb_stats) ? &TABLE : NULL;
}
