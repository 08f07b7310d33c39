/* least_loaded_probed.c: picks the backend that told the fewest requests in flight in its last probe. Plain C, no Rust.
 *
 * Why it exists: as an example of probes in C. least-loaded-probed/src/lib.rs is the same in Rust, with the same picks and probes. Build it:
 *     cc -std=c11 -shared -fPIC -fvisibility=hidden -O2 -I ../kit/api/include -o libleast_loaded_probed.so least_loaded_probed.c
 * It needs [strategy.probe] with a path, and backends that tell their requests in flight in the header x-in-flight of the response, as mock-server
 * --probe-path does. Each pick has two random backends probed. An answer counts for a second. If no candidate has one, the backend with the fewest
 * requests in flight of this balancer is picked. The random bits decide between equal ones.
 * Invariants: statics never change. Memory that is allocated here is freed here. No argument is kept after its call, except the host. Words 0 and 1
 * of a slot are the answer and the time at which it came. */
#define LB_STRATEGY_IMPL
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lb_strategy.h"

#define TEXT(literal) {(const uint8_t *)(literal), sizeof(literal) - 1}
#define AGE_MAX_NS 1000000000u

struct lb_strategy { const lb_host *host; };
struct lb_picker { char nothing; }; /* there is no data to compute, so every picker is the same constant */
static const lb_picker THE_PICKER = {0};

static lb_status strategy_new(const lb_host *host, lb_str config, lb_sink *err, lb_strategy **out) {
  for (size_t i = 0; i < config.len; i++) {
    if (config.ptr[i] == '"') {
      static const lb_str reason = TEXT("least_loaded_probed has no options");
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

/* Whether the backend has a new answer, which goes to told. */
static int has_told(const lb_backend *backend, const lb_request *request, uint64_t *told) {
  uint64_t at_ns = __atomic_load_n(&backend->slot->word[1], __ATOMIC_RELAXED);
  /* A time so far ahead is from before the clock was set back. */
  uint64_t age_ns = request->now_ns > at_ns ? request->now_ns - at_ns : at_ns - request->now_ns;
  if (at_ns == 0 || age_ns > AGE_MAX_NS) return 0;
  *told = __atomic_load_n(&backend->slot->word[0], __ATOMIC_RELAXED);
  return 1;
}

/* Two different numbers below n by the request's random bits; the same one twice if there is only one. */
static void two_of(uint64_t n, const lb_request *request, uint64_t two[2]) {
  two[0] = ((request->rand >> 32) * n) >> 32;
  two[1] = (two[0] + 1 + (((request->rand & 0xFFFFFFFFu) * (n - 1)) >> 32)) % n;
}

static lb_status pick(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                      lb_pick *out) {
  uint64_t n = lb_candidate_count(backends, request), two[2], place = 0, least_order = 0, least_load = 0;
  int least_is_unknown = 0;
  (void)strategy, (void)picker;
  if (n == 0) return LB_NONE;
  two_of(n, request, two);
  /* Of equal ones, the first behind a random place. */
  for (uint32_t i = 0; i < backends->n_eligible; i++) {
    uint32_t index = backends->eligible[i];
    if (lb_is_tried(request, index)) continue;
    const lb_backend *backend = LB_BACKEND(backends, index);
    uint64_t order = (place + n - two[0]) % n, load = 0;
    int is_unknown = !has_told(backend, request, &load);
    if (is_unknown) load = __atomic_load_n(&backend->stats->in_flight, __ATOMIC_RELAXED);
    int is_less = is_unknown != least_is_unknown ? is_unknown < least_is_unknown : load != least_load ? load < least_load : order < least_order;
    if (place++ == 0 || is_less) {
      out->index = index;
      least_is_unknown = is_unknown, least_load = load, least_order = order;
    }
  }
  /* Two random backends of those that may get requests. */
  two_of(backends->n_eligible, request, two);
  out->n_probes = two[0] == two[1] ? 1 : 2;
  for (uint32_t i = 0; i < out->n_probes; i++) out->probe[i] = backends->eligible[two[i]];
  return LB_OK;
}

/* A backend that does not respond has no answer: others are picked before it. */
static void on_probe(lb_strategy *strategy, const lb_probe *probe) {
  uint64_t told = 0;
  (void)strategy;
  if (probe->slot == NULL) return;
  const lb_str *text = probe->n_response_headers > 0 ? &probe->response_headers[0] : NULL;
  int is_number = probe->outcome == 0 && text != NULL && text->ptr != NULL && text->len > 0 && text->len < 19;
  for (size_t i = 0; is_number && i < text->len; i++) {
    is_number = text->ptr[i] >= '0' && text->ptr[i] <= '9';
    told = told * 10 + (uint64_t)(text->ptr[i] - '0');
  }
  __atomic_store_n(&probe->slot->word[0], is_number ? told : 0, __ATOMIC_RELAXED);
  __atomic_store_n(&probe->slot->word[1], is_number ? probe->now_ns : 0, __ATOMIC_RELAXED);
}

/* Writes the answer of each backend. Names need no escapes in JSON. */
static lb_status explain(lb_strategy *strategy, const lb_picker *picker, const lb_backends *backends, const lb_request *request,
                         lb_sink *out) {
  const lb_host *host = strategy->host;
  char text[160] = "{\"probed\":[";
  (void)picker;
  for (uint32_t index = 0; index < backends->len; index++) {
    const lb_backend *backend = LB_BACKEND(backends, index);
    uint64_t told;
    host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
    int length = snprintf(text, sizeof text, "%s{\"backend\":\"%.*s\"", index > 0 ? "," : "", (int)backend->name.len, (const char *)backend->name.ptr);
    if (has_told(backend, request, &told)) snprintf(text + length, sizeof text - (size_t)length, ",\"in_flight\":%llu}", (unsigned long long)told);
    else snprintf(text + length, sizeof text - (size_t)length, "}");
  }
  host->sink_write(out, (lb_str){(const uint8_t *)text, strlen(text)});
  host->sink_write(out, (lb_str){(const uint8_t *)"]}", 2});
  return LB_OK;
}

static const lb_str HEADERS[] = {TEXT("x-in-flight")};

static const lb_strategy_table TABLE = {
    .size = sizeof TABLE,
    .abi_major = LB_ABI_MAJOR,
    .abi_minor = LB_ABI_MINOR,
    .min_host_minor = 1, /* it asks for probes and reads the list of eligible backends */
    .name = TEXT("least_loaded_probed"),
    .version = TEXT("0.1.0"),
    .build = TEXT("C"),
    .expectation = TEXT("{\"balance\":\"by_load\"}"),
    .strategy_new = strategy_new,
    .strategy_free = strategy_free,
    .picker_new = picker_new,
    .picker_free = picker_free,
    .pick = pick,
    .explain = explain,
    .response_headers = HEADERS,
    .n_response_headers = 1,
    .on_probe = on_probe,
};

const lb_strategy_table *lb_strategy_entry_v1(const lb_host *host) {
  return LB_HAS(host, lb_host, pick_size) && host->pick_size >= sizeof(lb_pick) ? &TABLE : NULL;
}
